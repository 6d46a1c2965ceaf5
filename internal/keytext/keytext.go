// Package keytext says what is wrong with a text that was given as an
// encryption key but isn't one: it may be in quotes, or a file's path.
//
// Its results never contain any part of the text, only positions, lengths and
// kinds of characters, since the text may be a good key in the wrong form.
package keytext

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	keyBytes = 32 // in a key
	keyChars = 44 // in its base64, with padding

	// one says what to do with several keys in one place.
	one = "a key stands alone: ENCRYPTION_KEY has the primary key, and ENCRYPTION_KEY_PREVIOUS earlier ones, with a " +
		"comma between two"
)

// Cause returns what is wrong with a text that isn't a key, and what to do
// about it.
func Cause(text string) string {
	trimmed := strings.TrimSpace(text)
	if trimmed == "" {
		return "it is empty"
	}
	for _, find := range []func(string) string{
		encoding, misplaced, placeholder, line, quotes, several, path, otherForm, character, length,
	} {
		if cause := find(trimmed); cause != "" {
			return cause
		}
	}
	return fmt.Sprintf("it is not base64 of %d bytes", keyBytes)
}

// encoding finds texts in another encoding, and bytes that aren't text.
func encoding(text string) string {
	switch {
	case strings.HasPrefix(text, "\xef\xbb\xbf"), strings.HasPrefix(text, "\ufeff"):
		return "it begins with a byte order mark, which editors on Windows write and don't show: save it as UTF-8 " +
			"without one"
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"),
		strings.Count(text, "\x00") >= len(text)/3 && len(text) > keyChars:
		return "it is in UTF-16, as PowerShell writes files: save it as ASCII or UTF-8 without a byte order mark"
	}
	for i, r := range text {
		if r == utf8.RuneError || r < ' ' && !unicode.IsSpace(r) {
			if len(text) == keyBytes {
				return fmt.Sprintf("it is %d raw bytes, and a key is their base64url: encode it, as `base64` does",
					keyBytes)
			}
			return fmt.Sprintf("it isn't text: byte %d of %d is no character; a key is %d characters of base64url", i+1,
				len(text), keyChars)
		}
	}
	return ""
}

// assignment matches the beginning of a line in a file of variables.
var assignment = regexp.MustCompile(`^(?:(?:export|set|setx|ENV|-e|--env)\s+)?["']?(?:\$env:)?[A-Za-z_][A-Za-z_0-9]{0,39}["']?\s*(=|:\s)\s*`)

// line finds a whole line of a file instead of the value in it.
func line(text string) string {
	switch {
	case strings.HasPrefix(text, "-----BEGIN"):
		return "it is PEM, as of a certificate or an RSA key: a key is base64url alone"
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "["):
		if !strings.HasPrefix(text, "{{") {
			return "it is JSON, as secret stores return it: take the key out of it"
		}
	}
	if found := assignment.FindString(text); found != "" && len(text) > len(found) && text[len(found)] != '=' {
		return "it has the variable name before it, as in a .env file: leave only what follows the = or the colon"
	}
	return ""
}

// quoteNames are the quotation marks that a key may be in.
var quoteNames = map[rune]string{
	'"': "double", '\'': "single", '`': "backtick", '“': "typographic", '”': "typographic", '„': "typographic",
	'‟': "typographic", '‘': "typographic", '’': "typographic", '‚': "typographic", '‛': "typographic",
	'«': "typographic", '»': "typographic", '‹': "typographic", '›': "typographic", '＂': "typographic",
	'＇': "typographic", '´': "typographic",
}

// quotes finds quotation marks.
func quotes(text string) string {
	first, size := utf8.DecodeRuneInString(text)
	last, _ := utf8.DecodeLastRuneInString(text)
	if (first == 'b' || first == 'B') && len(text) > 3 && (text[1] == '\'' || text[1] == '"') && last == rune(text[1]) {
		return "it is what Python prints for bytes, b'…': remove the b and the quotes, or print key.decode()"
	}
	if first == '\\' && len(text) > size {
		first, _ = utf8.DecodeRuneInString(text[size:])
	}
	if name := quoteNames[first]; name != "" && quoteNames[last] != "" && utf8.RuneCountInString(text) > 1 {
		return "it is in " + name + " quotes: remove them; only a shell does that by itself"
	}
	n := 0
	for _, r := range text {
		n++
		if name := quoteNames[r]; name != "" {
			return fmt.Sprintf("it has a %s quote at position %d: remove it", name, n)
		}
	}
	return ""
}

// several finds more than one key.
func several(text string) string {
	if i := strings.IndexAny(text, ",;|"); i >= 0 {
		name := map[byte]string{',': "comma", ';': "semicolon", '|': "vertical bar"}[text[i]]
		return fmt.Sprintf("it has a %s at position %d: %s", name, utf8.RuneCountInString(text[:i])+1, one)
	}
	fields := strings.Fields(text)
	if len(fields) < 2 {
		return ""
	}
	if len(text) < keyChars-4 { // words
		return length(text)
	}
	keys := 0
	for _, field := range fields {
		if len(field) >= keyChars-2 && decoded(field) != nil {
			keys++
		}
	}
	if keys > 1 {
		return fmt.Sprintf("it seems to be %d keys with white space between them: %s", keys, one)
	}
	i := strings.IndexFunc(text, unicode.IsSpace)
	r, _ := utf8.DecodeRuneInString(text[i:])
	name := map[rune]string{'\n': "line break", '\r': "line break", '\t': "tab", ' ': "space"}[r]
	if name == "" {
		name = fmt.Sprintf("white space (%U)", r)
	}
	return fmt.Sprintf("it has a %s at position %d of %d: a key is %d characters in one piece",
		name, utf8.RuneCountInString(text[:i])+1, utf8.RuneCountInString(text), keyChars)
}

// misplaced finds a value for another variable, or for none.
func misplaced(text string) string {
	scheme, _, url := strings.Cut(text, "://")
	switch {
	case strings.HasPrefix(text, "[REDACTED"):
		return "it is the marker that is printed instead of a secret, and not the key itself"
	case strings.HasPrefix(text, "credent-keyring"):
		return "it is a wrapped keyring, which ENCRYPTION_KEYRING takes, together with ENCRYPTION_KEYRING_URL " +
			"(docs/kms.md)"
	case strings.HasPrefix(text, "gAAAA"):
		return "it is a token, which is something encrypted: give the key that it was encrypted with"
	case strings.HasPrefix(text, "arn:"), strings.HasPrefix(text, "vault:"), strings.HasPrefix(text, "op://"),
		strings.HasPrefix(text, "projects/") && strings.Count(text, "/") > 2:
		return "it names a secret or a key in a store: fetch it and give the key itself, or use a key " +
			"management service by ENCRYPTION_KEYRING_URL (docs/kms.md)"
	case url && strings.EqualFold(scheme, "file"):
		return "it is the URL of a file: set ENCRYPTION_KEY_FILE to the file's path"
	case url && (strings.HasSuffix(scheme, "kms") || strings.Contains(scheme, "vault") || scheme == "base64key"):
		return "it is the URL of a key management service, which ENCRYPTION_KEYRING_URL takes (docs/kms.md)"
	case url:
		return "it is a URL"
	}
	return ""
}

// placeholder finds an unexpanded variable or template.
func placeholder(text string) string {
	switch {
	case strings.HasPrefix(text, "$"), strings.HasPrefix(text, "{{"),
		strings.HasPrefix(text, "<") && strings.HasSuffix(text, ">"),
		strings.HasPrefix(text, "%") && strings.HasSuffix(text, "%"):
		return "it is a placeholder that was not replaced with the key"
	}
	return ""
}

// driveOrDots matches the start of paths that can't be base64.
var driveOrDots = regexp.MustCompile(`^([A-Za-z]:[\\/]|\.{1,2}[\\/]|~[\\/]|\\\\)`)

// path finds the path of a file. Standard base64 may also begin with a slash.
func path(text string) string {
	base64s := len(text) >= keyChars-4 && decoded(text) != nil && !strings.ContainsAny(text, "-_")
	if driveOrDots.MatchString(text) || strings.HasPrefix(text, "/") && !base64s {
		return "it looks like the path of a file, which ENCRYPTION_KEY_FILE takes (ENCRYPTION_KEY_PREVIOUS_FILE for " +
			"earlier keys)"
	}
	return ""
}

var hexadecimal = regexp.MustCompile(`^(?:0[xX])?([0-9a-fA-F]{32,})$`)

// otherForm finds a key in another form.
func otherForm(text string) string {
	if found := hexadecimal.FindStringSubmatch(text); found != nil {
		if n := len(found[1]); n != 2*keyBytes {
			return fmt.Sprintf("it is %d hexadecimal digits, %d bytes, and a key has %d bytes, in base64url",
				n, n/2, keyBytes)
		}
		return "it is 64 hexadecimal digits, and a key is the base64url of these 32 bytes: `… | xxd -r -p | base64` " +
			"converts it"
	}
	if strings.Contains(text, "%3D") || strings.Contains(text, "%3d") {
		return "it is percent-encoded: write = where it has %3D, and so on"
	}
	raw := decoded(text)
	if len(raw) < 16 { // a word rather than a key
		return ""
	}
	if inner := strings.TrimSpace(string(raw)); len(inner) >= keyChars-1 && len(inner) <= keyChars &&
		len(decoded(inner)) == keyBytes {
		return "it is base64 twice, as if encoded before it was put in a Kubernetes Secret's data: decode it once"
	}
	switch bare := strings.TrimRight(text, "="); {
	case len(raw) == keyBytes && len(bare) == keyChars-1 && len(text) != keyChars:
		if len(text) < keyChars {
			return fmt.Sprintf("its padding is missing: it has %d characters, and a key ends in one = as the %dth",
				len(text), keyChars)
		}
		return fmt.Sprintf("it ends in %d =, and a key in one", len(text)-len(bare))
	case len(raw) != keyBytes:
		return fmt.Sprintf("it is base64 of %d bytes (%d characters), and a key has %d bytes (%d characters)%s",
			len(raw), len(text), keyBytes, keyChars, cut(len(raw)))
	}
	return ""
}

func cut(n int) string {
	if n < keyBytes && n != 16 && n != 24 {
		return "; it may have been cut off"
	}
	return ""
}

// character finds the first character that isn't base64.
func character(text string) string {
	n := 0
	for _, r := range text {
		n++
		switch {
		case r == '=', r == '-', r == '_', r == '+', r == '/', '0' <= r && r <= '9', 'a' <= r && r <= 'z',
			'A' <= r && r <= 'Z':
			continue
		}
		kind := "a character"
		switch {
		case !unicode.IsPrint(r):
			kind = fmt.Sprintf("an invisible character (%U)", r)
		case r == '\\':
			kind = "a backslash"
		case r > unicode.MaxASCII:
			kind = "a character outside of ASCII"
		}
		return fmt.Sprintf("it has %s at position %d of %d, which base64url lacks", kind, n,
			utf8.RuneCountInString(text))
	}
	if i := strings.Index(text, "="); i >= 0 && strings.Trim(text[i:], "=") != "" {
		return fmt.Sprintf("it has a = at position %d, before its end", i+1)
	}
	return ""
}

// length finds a text of the wrong length, or else a damaged one.
func length(text string) string {
	if len(text) != keyChars {
		return fmt.Sprintf("it has %d characters, and a key has %d", len(text), keyChars)
	}
	return fmt.Sprintf("it is not the base64 of %d bytes: its last characters do not fit, so one of them was altered",
		keyBytes)
}

// decoded returns the content of base64 in either alphabet, with or without
// padding, or nil.
func decoded(text string) []byte {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") || len(raw) == 0 {
		return nil
	}
	return raw
}

// PathCause returns what is wrong with a text that was given as a key file's
// path, or "" if the text alone doesn't show it.
func PathCause(text string) string {
	trimmed := strings.TrimSpace(text)
	first, _ := utf8.DecodeRuneInString(trimmed)
	last, _ := utf8.DecodeLastRuneInString(trimmed)
	scheme, _, url := strings.Cut(trimmed, "://")
	switch {
	case quoteNames[first] != "" || quoteNames[last] != "":
		return "it is in quotes: remove them"
	case len(decoded(trimmed)) == keyBytes && len(trimmed) >= keyChars-1 && !strings.HasPrefix(trimmed, "/"):
		return "it looks like the key itself, which the variable without _FILE takes"
	case trimmed != text:
		return "it has white space around the path: remove it"
	case url && strings.EqualFold(scheme, "file"):
		return "it is a URL: leave the path only"
	case url:
		return "it is a URL, and the path of a file is expected"
	case assignment.MatchString(trimmed):
		return "it has a variable's name before it: leave only what follows the ="
	case strings.HasPrefix(trimmed, "~"), strings.HasPrefix(trimmed, "$"):
		return "only a shell replaces ~ and variables: write out the path"
	}
	return ""
}
