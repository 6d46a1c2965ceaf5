// Package plain is an ent client of Credent's tables without encryption: what
// ent alone costs.
package plain

// ent completes the imports of a file from those beside it: on one core these
// are never half written.
//go:generate env GOMAXPROCS=1 go tool ent generate --feature intercept ./schema
