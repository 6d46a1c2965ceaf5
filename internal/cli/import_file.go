package cli

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/credent-go/credent"
)

// File formats for credentials.
const (
	formatCSV   = "csv"
	formatJSONL = "jsonl"
)

// Columns in these files.
const (
	columnID        = "id"
	columnUser      = "user_id"
	columnType      = "credential_type"
	columnAPIKey    = "api_key"
	columnSecretKey = "secret_key"
	columnExpires   = "expires_at"
	columnActive    = "is_active"
	columnCreated   = "created_at"
	columnUpdated   = "updated_at"
)

var (
	fileColumns = []string{
		columnID, columnUser, columnType, columnAPIKey, columnSecretKey, columnExpires, columnActive,
		columnCreated, columnUpdated,
	}
	requiredColumns = []string{columnUser, columnType, columnAPIKey, columnSecretKey}
)

// maxLine is the maximum size in bytes of a JSON line or CSV record.
const maxLine = maxInput

// formatOf returns the format named by the flag or, if that is empty, by the
// file's extension.
func formatOf(flag, path string) (string, error) {
	switch flag {
	case formatCSV, formatJSONL:
		return flag, nil
	case "":
	default:
		return "", usageError("--format: use csv or jsonl")
	}
	switch strings.ToLower(filepath.Ext(path)) {
	case ".csv":
		return formatCSV, nil
	case ".jsonl", ".ndjson":
		return formatJSONL, nil
	}
	return "", usageError("give --format csv or --format jsonl")
}

// fileRow is a row of a file.
type fileRow struct {
	credent.CopyRow
	line int // first line, from 1
}

// rowError describes a fault in a row without quoting it. It is reported with
// the row's line number.
type rowError string

func (e rowError) Error() string { return string(e) }

// readRows returns a file's rows in order. A row's error takes the row's place,
// and later rows follow. An error about the whole file comes last.
func readRows(in io.Reader, format string) iter.Seq2[fileRow, error] {
	read := readJSONL
	if format == formatCSV {
		read = readCSV
	}
	return func(yield func(fileRow, error) bool) {
		buffered := bufio.NewReader(in)
		if mark, err := buffered.Peek(3); err == nil && string(mark) == "\ufeff" {
			_, _ = buffered.Discard(3) // the byte order mark that spreadsheets and PowerShell write
		}
		read(buffered, yield)
	}
}

func readCSV(in *bufio.Reader, yield func(fileRow, error) bool) {
	limit := &recordLimit{in: in, end: maxLine}
	r := csv.NewReader(limit)
	r.ReuseRecord = true
	head, err := r.Read()
	if errors.Is(err, io.EOF) {
		err = rowError("the file is empty; its first line must name the columns")
	}
	if err == nil {
		head = slices.Clone(head)
		err = checkHead(head)
	}
	if err != nil {
		yield(fileRow{line: 1}, fatalError{csvError(err)})
		return
	}
	for {
		limit.end = r.InputOffset() + maxLine
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		row := fileRow{}
		if err != nil {
			var at *csv.ParseError
			if !errors.As(err, &at) {
				if len(record) > 0 {
					row.line, _ = r.FieldPos(0)
				}
				yield(row, fatalError{err})
				return
			}
			row.line = at.StartLine
			err = csvError(err)
		} else {
			row.line, _ = r.FieldPos(0)
			values := make(map[string]string, len(head))
			for i, name := range head {
				values[name] = record[i]
			}
			row.CopyRow, err = parseRow(values)
		}
		if !yield(row, err) {
			return
		}
	}
}

// recordLimit limits the size of a record. Otherwise an unclosed quote would
// make the rest of the file one record.
type recordLimit struct {
	in     io.Reader
	n, end int64 // bytes read, and the limit of the record
	over   bool
}

// Read implements io.Reader. It returns no data after an oversized record.
func (r *recordLimit) Read(p []byte) (int, error) {
	if r.over = r.over || r.n >= r.end; r.over {
		return 0, rowError(fmt.Sprintf("it has more than %d bytes; is a quote not closed?", maxLine))
	}
	n, err := r.in.Read(p[:min(int64(len(p)), r.end-r.n)])
	r.n += int64(n)
	return n, err
}

// fatalError is an error that ends reading.
type fatalError struct{ error }

// Unwrap returns the cause.
func (f fatalError) Unwrap() error { return f.error }

// csvError removes the position from an error of the CSV reader, which counts
// columns in bytes.
func csvError(err error) error {
	var at *csv.ParseError
	if !errors.As(err, &at) {
		return err
	}
	if errors.Is(at.Err, csv.ErrFieldCount) {
		return rowError("it has more or fewer fields than the first line")
	}
	return rowError("it is not CSV: " + at.Err.Error())
}

func checkHead(names []string) error {
	seen := make(map[string]bool)
	for _, name := range names {
		switch {
		case !utf8.ValidString(name):
			return rowError("it is not UTF-8 text")
		case !slices.Contains(fileColumns, name):
			return rowError("it names an unknown column; known are " + strings.Join(fileColumns, ", "))
		case seen[name]:
			return rowError("it names " + name + " twice")
		}
		seen[name] = true
	}
	return checkRequired(func(name string) bool { return seen[name] })
}

func checkRequired(has func(name string) bool) error {
	for _, name := range requiredColumns {
		if !has(name) {
			return rowError(name + " is missing")
		}
	}
	return nil
}

// parseRow parses a row's texts. An empty text means the default, except for
// the secrets, which may be empty.
func parseRow(values map[string]string) (row credent.CopyRow, err error) {
	for _, name := range fileColumns {
		if name != columnAPIKey && name != columnSecretKey && !utf8.ValidString(values[name]) {
			return row, rowError(name + " is not UTF-8 text")
		}
		if name != columnAPIKey && name != columnSecretKey && strings.ContainsRune(values[name], 0) {
			return row, rowError(name + " has a NUL character")
		}
	}
	row.UserID, row.CredentialType = values[columnUser], values[columnType]
	row.APIKey, row.SecretKey = credent.NewSecret(values[columnAPIKey]), credent.NewSecret(values[columnSecretKey])
	if text := values[columnID]; text != "" {
		if row.ID, err = uuid.Parse(text); err != nil {
			return row, rowError(columnID + " is not a UUID")
		}
		if row.ID == uuid.Nil {
			return row, rowError(columnID + " has only zeros, which stands for no id")
		}
	}
	// A row with an ID was stored before, perhaps by another program.
	if row.ID == uuid.Nil && row.CredentialType != strings.ToLower(row.CredentialType) {
		return row, rowError(columnType + ": types are in lower case")
	}
	if text := values[columnActive]; text != "" {
		active, err := strconv.ParseBool(text)
		if err != nil {
			return row, rowError(columnActive + " is neither true nor false")
		}
		row.Inactive = !active
	}
	for _, c := range []struct {
		name string
		set  func(time.Time)
	}{
		{columnExpires, func(t time.Time) { row.ExpiresAt = &t }},
		{columnCreated, func(t time.Time) { row.CreatedAt = t }},
		{columnUpdated, func(t time.Time) { row.UpdatedAt = t }},
	} {
		text := values[c.name]
		if text == "" {
			continue
		}
		at, ok := parseTime(text)
		if !ok {
			return row, rowError(c.name + ": " + wantTime)
		}
		c.set(at)
	}
	return row, nil
}

func readJSONL(in *bufio.Reader, yield func(fileRow, error) bool) {
	for n := 1; ; n++ {
		line, err := readLine(in)
		var row credent.CopyRow
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil && !errors.As(err, new(rowError)):
			yield(fileRow{line: n}, fatalError{err})
			return
		case err == nil && len(bytes.TrimSpace(line)) == 0:
			continue
		case err == nil:
			row, err = parseLine(line)
		}
		if !yield(fileRow{row, n}, err) {
			return
		}
	}
}

// readLine returns the next line. It keeps maxLine bytes of it at most, and
// reads on to its end, so that a line that is too long does not hide the next.
func readLine(in *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		part, err := in.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && (!errors.Is(err, io.EOF) || len(line) == 0 && !long):
			return nil, err
		case long:
			return nil, rowError(fmt.Sprintf("it has more than %d bytes", maxLine))
		}
		return line, nil
	}
}

// parseLine parses a JSON object with known names. It refuses faults that
// encoding/json would accept.
func parseLine(line []byte) (row credent.CopyRow, err error) {
	if !utf8.Valid(line) {
		return row, rowError("it is not UTF-8 text")
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	malformed := func() error { return rowError(fmt.Sprintf("it is not JSON, near byte %d", dec.InputOffset()+1)) }
	if start, err := dec.Token(); err != nil {
		return row, malformed()
	} else if start != json.Delim('{') {
		return row, rowError("it is not an object")
	}
	values := make(map[string]string)
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return row, malformed()
		}
		name, _ := token.(string)
		if !slices.Contains(fileColumns, name) {
			return row, rowError("it has an unknown field; known are " + strings.Join(fileColumns, ", "))
		}
		if _, ok := values[name]; ok {
			return row, rowError(name + " appears twice")
		}
		start := dec.InputOffset()
		if token, err = dec.Token(); err != nil {
			return row, malformed()
		}
		if err := setValue(values, name, token, line[start:dec.InputOffset()]); err != nil {
			return row, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return row, malformed()
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return row, rowError("something follows the object")
	}
	if err := checkRequired(func(name string) bool { _, ok := values[name]; return ok }); err != nil {
		return row, err
	}
	return parseRow(values)
}

// setValue stores a value; raw is its text in the line.
func setValue(values map[string]string, name string, token json.Token, raw []byte) error {
	switch value := token.(type) {
	case nil: // same as missing
		return nil
	case string:
		// encoding/json replaces half a surrogate pair with this character,
		// unless the line itself contains it.
		if replacement := string(utf8.RuneError); strings.Count(value, replacement) > bytes.Count(raw,
			[]byte(replacement)) {
			return rowError(name + " has a character that is not Unicode")
		}
		values[name] = value
		return nil
	case bool:
		if name == columnActive {
			values[name] = strconv.FormatBool(value)
			return nil
		}
	}
	if name == columnActive {
		return rowError(name + " is neither true nor false")
	}
	return rowError(name + " is not a string")
}
