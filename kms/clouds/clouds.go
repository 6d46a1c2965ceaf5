// Package clouds registers the key services of AWS, Google Cloud and Azure with
// package kms when it is imported:
//
//	import _ "github.com/credent-go/credent/kms/clouds"
//
// A service that uses only one of them may import gocloud's driver for that one
// instead, which makes a smaller program.
package clouds

import (
	_ "gocloud.dev/secrets/awskms"        // awskms://
	_ "gocloud.dev/secrets/azurekeyvault" // azurekeyvault://
	_ "gocloud.dev/secrets/gcpkms"        // gcpkms://
)
