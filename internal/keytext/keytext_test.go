package keytext_test

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/credent-go/credent/internal/keytext"
)

// Made-up keys: 32 bytes in base64url.
const (
	key   = "PVLm_WbbImYbiza-TY2yxjEqnuqXQTDZkx0auoKVRAc="
	other = "mzF6vvYj1x7p-MZzMvaEJNQpk4cZ_SYr0CJJcuDI_yM="
)

func raw(text string) []byte {
	data, err := base64.URLEncoding.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return data
}

// utf16Text encodes a text in UTF-16, as Windows does.
func utf16Text(text string, order string, mark bool) string {
	var b strings.Builder
	units := utf16.Encode([]rune(text))
	if mark {
		units = append([]uint16{0xfeff}, units...)
	}
	for _, unit := range units {
		if order == "little" {
			b.Write([]byte{byte(unit), byte(unit >> 8)})
		} else {
			b.Write([]byte{byte(unit >> 8), byte(unit)})
		}
	}
	return b.String()
}

// hasPart reports whether a message quotes any 6 bytes of a text.
func hasPart(message, text string) bool {
	for i := 0; i+6 <= len(text); i++ {
		if strings.Contains(message, text[i:i+6]) {
			return true
		}
	}
	return false
}

func TestCause(t *testing.T) {
	t.Parallel()
	std := strings.NewReplacer("-", "+", "_", "/").Replace(key)
	for name, test := range map[string]struct{ text, want string }{
		"empty":                     {"", "it is empty"},
		"white space":               {" \r\n\t", "it is empty"},
		"double quotes":             {`"` + key + `"`, "in double quotes: remove them"},
		"double quotes, line break": {`"` + key + "\"\n", "in double quotes"},
		"single quotes":             {"'" + key + "'", "in single quotes"},
		"typographic quotes":        {"“" + key + "”", "in typographic quotes"},
		"German quotes":             {"„" + key + "“", "in typographic quotes"},
		"backticks":                 {"`" + key + "`", "in backtick quotes"},
		"escaped quotes":            {`\"` + key + `\"`, "in double quotes"},
		"quote before":              {`"` + key, "a double quote at position 1"},
		"quote after":               {key + "'", "a single quote at position 45"},
		"quoted list":               {`"` + key + "," + other + `"`, "in double quotes"},
		"Python bytes":              {"b'" + key + "'", "Python prints for bytes"},
		"Python bytes, double":      {`b"` + key + `"`, "Python prints for bytes"},
		"comma":                     {key + "," + other, "a comma at position 45: a key stands alone"},
		"comma and space":           {key + ", " + other, "ENCRYPTION_KEY_PREVIOUS"},
		"comma at the end":          {key + ",", "a comma at position 45"},
		"semicolon":                 {key + ";" + other, "a semicolon at position 45"},
		"two lines":                 {key + "\n" + other + "\n", "2 keys with white space between"},
		"two words":                 {key + " " + other, "2 keys with white space between"},
		"three lines":               {key + "\r\n" + other + "\r\n" + key, "3 keys"},
		"line break inside":         {key[:20] + "\n" + key[20:], "a line break at position 21 of 45"},
		"Windows line break inside": {key[:20] + "\r\n" + key[20:], "a line break at position 21 of 46"},
		"space inside":              {key[:7] + " " + key[7:], "a space at position 8 of 45"},
		"tab inside":                {key[:7] + "\t" + key[7:], "a tab at position 8 of 45"},
		"no-break space inside":     {key[:7] + "\u00a0" + key[7:], "white space (U+00A0) at position 8"},
		"zero-width space": {key[:7] + "\u200b" + key[7:], "an invisible character (U+200B) at position 8 " +
			"of 45"},
		"zero-width space at the end": {key + "\u200b", "an invisible character (U+200B) at position 45"},
		"written line break":          {key + `\n`, "a backslash at position 45 of 46"},
		"byte order mark":             {"\ufeff" + key, "begins with a byte order mark"},
		"UTF-16, little":              {utf16Text(key+"\r\n", "little", true), "in UTF-16"},
		"UTF-16, big":                 {utf16Text(key, "big", true), "in UTF-16"},
		"UTF-16 without a mark":       {utf16Text(key, "little", false), "in UTF-16"},
		"a line of .env":              {"ENCRYPTION_KEY=" + key, "the variable name before it"},
		"a quoted line of .env":       {`ENCRYPTION_KEY="` + key + `"`, "the variable name before it"},
		"a line of a shell":           {"export ENCRYPTION_KEY=" + key, "the variable name before it"},
		"a line of YAML":              {"ENCRYPTION_KEY: " + key, "the variable name before it"},
		"another variable":            {"FERNET_KEY=" + key, "the variable name before it"},
		"JSON":                        {`{"ENCRYPTION_KEY":"` + key + `"}`, "it is JSON"},
		"PEM":                         {"-----BEGIN PRIVATE KEY-----\n" + key, "it is PEM"},
		"base64 twice":                {base64.StdEncoding.EncodeToString([]byte(key)), "base64 twice"},
		"base64 twice, line break":    {base64.StdEncoding.EncodeToString([]byte(key + "\n")), "base64 twice"},
		"base64 twice, URL-safe":      {base64.RawURLEncoding.EncodeToString([]byte(std)), "base64 twice"},
		"without padding":             {strings.TrimRight(key, "="), "its padding is missing: it has 43 characters"},
		"standard, without padding":   {strings.TrimRight(std, "="), "its padding is missing"},
		"two paddings":                {key + "=", "it ends in 2 =, and a key in one"},
		"hexadecimal":                 {hex.EncodeToString(raw(key)), "64 hexadecimal digits"},
		"hexadecimal, upper case":     {strings.ToUpper(hex.EncodeToString(raw(key))), "64 hexadecimal digits"},
		"hexadecimal with 0x":         {"0x" + hex.EncodeToString(raw(key)), "64 hexadecimal digits"},
		"short hexadecimal": {hex.EncodeToString(raw(key)[:16]), "32 hexadecimal digits, 16 bytes, and a " +
			"key has 32"},
		"32 raw bytes": {string(raw(key)[:31]) + "\xfe", "32 raw bytes"},
		"48 raw bytes": {strings.Repeat("\xfe", 48), "it isn't text: byte 1 of 48"},
		"16 bytes": {base64.StdEncoding.EncodeToString(raw(key)[:16]), "base64 of 16 bytes (24 characters), " +
			"and a key has 32 bytes"},
		"24 bytes": {base64.StdEncoding.EncodeToString(raw(key)[:24]), "base64 of 24 bytes"},
		"31 bytes": {base64.StdEncoding.EncodeToString(raw(key)[:31]), "base64 of 31 bytes (44 characters)"},
		"64 bytes": {base64.StdEncoding.EncodeToString(append(raw(key), raw(other)...)), "base64 of 64 bytes"},
		"cut off": {key[:40], "base64 of 30 bytes (40 characters), and a key has 32 bytes (44 characters); " +
			"it may have been cut off"},
		"twice in a row":    {key + key, "it has a = at position 44, before its end"},
		"a path":            {"/run/secrets/encryption_key", "the path of a file, which ENCRYPTION_KEY_FILE takes"},
		"a long path":       {"/var/run/secrets/credent/production/encryption-key", "the path of a file"},
		"a relative path":   {"./key.txt", "the path of a file"},
		"a path of Windows": {`C:\keys\key.txt`, "the path of a file"},
		"a URL of a file":   {"file:///run/secrets/key", "ENCRYPTION_KEY_FILE"},
		"AWS KMS":           {"awskms://alias/credent?region=eu-central-1", "ENCRYPTION_KEYRING_URL"},
		"Google KMS":        {"gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k", "ENCRYPTION_KEYRING_URL"},
		"Azure Key Vault":   {"azurekeyvault://vault.vault.azure.net/keys/k", "ENCRYPTION_KEYRING_URL"},
		"Vault":             {"hashivault://credent", "ENCRYPTION_KEYRING_URL"},
		"an ARN":            {"arn:aws:kms:eu-central-1:123456789012:key/made-up", "fetch it and give the key itself"},
		"a wrapped keyring": {"credent-keyring-1.AAAA", "ENCRYPTION_KEYRING takes"},
		"a token":           {"gAAAAABmade-up", "it is a token"},
		"a variable":        {"${ENCRYPTION_KEY}", "a placeholder"},
		"a template":        {"{{ .Values.key }}", "a placeholder"},
		"a gap":             {"<your key>", "a placeholder"},
		"percent-encoded":   {strings.Replace(key, "=", "%3D", 1), "percent-encoded"},
		"redacted":          {"[REDACTED]", "printed instead of a secret"},
		"a word":            {"changeme", "it has 8 characters, and a key has 44"},
		"words":             {"correct horse battery staple", "it has 28 characters, and a key has 44"},
		"not base64":        {key[:9] + "!" + key[10:], "a character at position 10 of 44, which base64url lacks"},
		"not ASCII":         {key[:9] + "é" + key[10:], "a character outside of ASCII at position 10 of 44"},
		"padding inside":    {key[:20] + "====" + key[24:], "a = at position 21, before its end"},
		"spare bits":        {key[:42] + "N=", "its last characters do not fit"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := keytext.Cause(test.text)
			if !strings.Contains(got, test.want) || !strings.HasPrefix(got, "it") || strings.Contains(got, "\n") {
				t.Errorf("got %q, want a text with %q", got, test.want)
			}
			if hasPart(got, key) || hasPart(got, other) || hasPart(got, std) {
				t.Errorf("the cause quotes the key: %q", got)
			}
		})
	}
}

func TestPathCause(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		key:                         "the key itself",
		`"/run/secrets/key"`:        "in quotes",
		"/run/secrets/key\n":        "white space",
		"file:///run/secrets/key":   "it is a URL: leave the path only",
		"awskms://alias/k":          "it is a URL",
		"~/key":                     "only a shell",
		"$HOME/key":                 "only a shell",
		"KEY=/run/secrets/key":      "a variable's name",
		"/run/secrets/key":          "",
		"key.txt":                   "",
		"/run/secrets/A/encryption": "",
	} {
		if got := keytext.PathCause(text); want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%q: got %q, want a text with %q", text, got, want)
		}
	}
}

// FuzzCause puts a key into any text, cuts it there, and looks for parts of it
// in the cause.
func FuzzCause(f *testing.F) {
	for _, seed := range []struct{ before, after string }{
		{"", ""},
		{"\"", "\""},
		{"b'", "'"},
		{"", ","},
		{"ENCRYPTION_KEY=", "\n"},
		{"\ufeff", ""},
		{"/", "/x"},
		{"awskms://", ""},
		{"", "\x00"},
		{"$", ""},
		{"{", "}"},
		{"gAAAA", ""},
		{"=", "="},
		{"", "\xff"},
		{" ", "\t"},
	} {
		f.Add(seed.before, seed.after, 44)
	}
	f.Fuzz(func(t *testing.T, before, after string, size int) {
		if size < 0 || size > len(key) {
			return
		}
		for _, text := range []string{
			key, string(raw(key)), base64.StdEncoding.EncodeToString([]byte(key)),
			hex.EncodeToString(raw(key)),
		} {
			given := before + text[:min(size, len(text))] + after
			for what, cause := range map[string]string{"key": keytext.Cause(given), "path": keytext.PathCause(given)} {
				if hasPart(cause, text) || strings.ContainsAny(cause, "\n\r") || len(cause) > 250 {
					t.Errorf("%s: %q", what, cause)
				}
			}
		}
	})
}
