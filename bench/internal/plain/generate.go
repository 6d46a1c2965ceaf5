// Package plain is an ent client of Credent's tables without encryption: what ent alone costs.
package plain

//go:generate go tool ent generate --feature intercept ./schema
