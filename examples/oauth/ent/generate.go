// Package ent is the client of this service's own schema, generated from the
// entities in ent/schema.
package ent

//go:generate go run entc.go
