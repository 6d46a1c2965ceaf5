// Package redact has the methods that make every printer show a marker instead
// of a secret. Types embed [Methods] and hold the secret in a closure, since
// printers also walk unexported fields and pointers.
package redact

import (
	"fmt"
	"io"
	"log/slog"
)

// Marker is shown instead of a secret.
const Marker = "[REDACTED]"

// Methods are embedded in types that hold secrets.
type Methods struct{}

// String returns [Marker].
func (Methods) String() string { return Marker }

// GoString returns [Marker].
func (Methods) GoString() string { return Marker }

// Format writes [Marker], for any verb and flags.
func (Methods) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, Marker) }

// LogValue returns [Marker].
func (Methods) LogValue() slog.Value { return slog.StringValue(Marker) }

// MarshalText returns [Marker].
func (Methods) MarshalText() ([]byte, error) { return []byte(Marker), nil }
