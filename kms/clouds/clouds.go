// Package clouds makes the key services of AWS, Google Cloud and Azure known to
// package kms, by being imported:
//
//	import _ "github.com/credent-go/credent/kms/clouds"
//
// A service that uses one of them may import gocloud's driver of that one in
// its place, which makes a smaller program.
package clouds

import (
	_ "gocloud.dev/secrets/awskms"        // awskms://
	_ "gocloud.dev/secrets/azurekeyvault" // azurekeyvault://
	_ "gocloud.dev/secrets/gcpkms"        // gcpkms://
)
