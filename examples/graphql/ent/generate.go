// Package ent is the client of this service's schema, with the code for its
// GraphQL API, generated from the entities in ent/schema.
package ent

//go:generate go run entc.go
