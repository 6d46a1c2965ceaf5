// Package ent is the client that package sequence tests.
package ent

//go:generate go run entc.go
