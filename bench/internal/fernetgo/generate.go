// Package fernetgo is an ent client of Credent's tables whose secrets are encrypted by fernet-go in their Go type.
package fernetgo

//go:generate go tool ent generate ./schema
