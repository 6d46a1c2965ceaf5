// Package fernetgo is an ent client of Credent's tables. Its secrets are
// encrypted by fernet-go in their Go type.
package fernetgo

// ent completes the imports of a file from those beside it: on one core these
// are never half written.
//go:generate env GOMAXPROCS=1 go tool ent generate ./schema
