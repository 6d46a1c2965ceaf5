package wire

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/credent-go/credent/internal/dberror"
)

// ErrConnect means that no connection could be made.
var ErrConnect = errors.New("cannot connect to the database")

// connectError is [ErrConnect] with its reasons. It keeps the innermost errors
// only: what drivers put around them has the settings in it, the password too.
type connectError struct {
	text   string
	causes []error
}

func (e *connectError) Error() string   { return ErrConnect.Error() + ": " + e.text }
func (e *connectError) Unwrap() []error { return append([]error{ErrConnect}, e.causes...) }

// Because returns [ErrConnect] with a reason. It wraps the cause, and leaves
// out the cause's text.
func Because(reason string, cause error) error { return &connectError{reason, []error{cause}} }

// ConnectCause returns why no connection could be made, as [ConnectError] says
// it; "" for other errors.
func ConnectCause(err error) string {
	if e, ok := errors.AsType[*connectError](err); ok {
		return e.text
	}
	return ""
}

// ConnectError returns an error of a driver's attempt to connect in words that
// have none of the given values in them, unless the server itself says so.
func ConnectError(err error, limit time.Duration, values ...string) error {
	var texts []string
	causes := leaves(err)
	for _, cause := range causes {
		if text := describe(cause, limit, values); !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return &connectError{strings.Join(texts, "; "), causes}
}

// leaves returns the innermost errors, and what the server answered.
func leaves(err error) []error {
	if _, ok := err.(interface{ SQLState() string }); ok {
		return []error{err}
	}
	switch e := err.(type) { //nolint:errorlint // of this layer alone
	case *net.DNSError, *fs.PathError, x509.HostnameError:
		return []error{err}
	case interface{ Unwrap() []error }:
		var all []error
		for _, inner := range e.Unwrap() {
			all = append(all, leaves(inner)...)
		}
		return all
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return leaves(inner)
		}
	}
	return []error{err}
}

func describe(err error, limit time.Duration, values []string) string {
	var dns *net.DNSError
	var path *fs.PathError
	var name x509.HostnameError
	answer, answered := dberror.Of(err)
	switch {
	case answered:
		return answer.Message + " (SQLSTATE " + answer.State + ")"
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "its host name isn't known"
	case errors.As(err, &path):
		return "a file that the URL or a variable PG… names can't be read: " + path.Err.Error()
	case errors.As(err, &name):
		return "the server's certificate is for another host name"
	case errors.Is(err, context.Canceled):
		return "interrupted"
	case isTimeout(err), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		if limit > 0 {
			return "it did not answer within " + limit.String()
		}
		return "it did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed while it was made"
	}
	text := err.Error()
	for _, value := range values {
		if value != "" && regexp.MustCompile(`(?:^|\W)`+regexp.QuoteMeta(value)+`(?:\W|$)`).MatchString(text) {
			return "the driver's reason quotes the URL, and isn't repeated"
		}
	}
	return text
}
