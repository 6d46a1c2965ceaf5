// Package ent is the client of this service's schema, and what its GraphQL API
// needs, generated from the entities in ent/schema.
package ent

//go:generate go run entc.go
