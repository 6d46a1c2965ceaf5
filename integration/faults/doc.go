// Package faults breaks Credent's dependencies beside running writers and
// counts the results: servers that are killed, frozen or full, networks that
// cut, halve, delay or swallow data, killed commands, and standard output that
// nobody reads.
//
// TestFaults runs a short form of every scenario in about two minutes, or the
// long form if CREDENT_TEST_FAULTS is "full", as `make faults` sets it. Both
// print a table, and fail if a column that must be 0 isn't.
// print a table, and fail if a column that has to be 0 isn't.
package faults
