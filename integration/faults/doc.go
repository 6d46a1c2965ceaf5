// Package faults breaks what Credent depends on, beside writers that go on, and
// counts what comes of it: servers that are killed, frozen or full, networks
// that cut, halve, delay or swallow, commands that are killed, standard output
// that nobody reads.
//
// TestFaults runs a short form of every scenario, in about two minutes, and the
// long form if CREDENT_TEST_FAULTS is "full", as `make faults` sets it. Both
// print a table, and fail if a column that has to be 0 isn't.
package faults
