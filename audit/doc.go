// Package audit is the audit trail: who did what with which secret, when, under
// which key, and how it ended. It keeps entries in the table credent_audit of
// the database itself, on Postgres and SQLite. No entry has a value, a digest
// or a token.
//
// A service opens a [Trail] with [Open] and gives it to its client, which makes
// the entries. [Trail.Add] takes reveals in batches or, with [Sync], one by
// one; [Trail.AddTx] writes entries in the transaction of a change. [List] and
// [Follow] read them, [Verify] looks for tampering, and [Archive] takes old
// months out.
//
// # What it proves
//
// Each trail is one writer with a chain of entries: the hash of an entry is
// SHA-256 over its fields and the hash before, and its MAC is HMAC-SHA-256 (RFC
// 2104) over that hash, under a subkey (HKDF, RFC 5869) of the keyring's
// primary key. An entry of a transaction has a MAC, and after the commit a link
// in the chain. So anyone with the database and no key can't change, move,
// insert or remove an entry undetected, with these exceptions:
//
//   - the newest entries of a chain, a whole chain, or everything newer than a
//     backup, unless a newer signed head names them: a [Checkpoint] that was
//     kept elsewhere, or an entry of [SignHeads];
//   - an entry of a transaction between its commit and its link, which a killed
//     process leaves for good until [SignHeads] makes it.
//
// The chain is the one in Schneier and Kelsey, "Secure Audit Logs to Support
// Computer Forensics" (1999), without its evolving keys: anyone with the
// keyring can make any entry. docs/audit.md says more.
//
// A change to the encoding of entries would use another label, and old entries
// would still verify.
package audit
