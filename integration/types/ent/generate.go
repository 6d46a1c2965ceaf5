// Package ent is the client that package types tests.
package ent

//go:generate go run entc.go
