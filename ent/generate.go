// Package ent is the client for user accounts and their broker credentials,
// generated from the schemas in ent/schema. Open it through package credent,
// which seals the secret fields with a keyring.
package ent

import _ "github.com/credent-go/credent/ent/runtime" // the schemas' defaults, validators and hooks

//go:generate go run entc.go
