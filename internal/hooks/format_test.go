package hooks_test

import (
	"strings"
	"testing"

	"github.com/credent-go/credent/internal/hooks"
)

// The keys are made up.
func TestBrokerFormats(t *testing.T) {
	t.Parallel()
	formats := map[string]hooks.Format{}
	for _, format := range hooks.BrokerFormats() {
		if format.Type != strings.ToLower(format.Type) || format.Hint == "" || format.APIKey == nil {
			t.Errorf("%+v", format)
		}
		formats[format.Type] = format
	}
	for name, test := range map[string]struct {
		format, apiKey string
		want           bool
	}{
		"paper":                {"alpaca", "PKV7UQ0NJ2IGT9A3ZK1D", true},
		"live":                 {"alpaca", "AKFZXJH121U18SHHDRFO", true},
		"broker":               {"alpaca", "CKFZXJH121U18SHHDRFO", true},
		"longer":               {"alpaca", "PK" + strings.Repeat("A", 24), true},
		"other prefix":         {"alpaca", "XKV7UQ0NJ2IGT9A3ZK1D", false},
		"lower case":           {"alpaca", "pkv7uq0nj2igt9a3zk1d", false},
		"short":                {"alpaca", "PKV7UQ", false},
		"space before":         {"alpaca", " PKV7UQ0NJ2IGT9A3ZK1D", false},
		"line after":           {"alpaca", "PKV7UQ0NJ2IGT9A3ZK1D\n", false},
		"line before":          {"alpaca", "x\nPKV7UQ0NJ2IGT9A3ZK1D", false},
		"the secret":           {"alpaca", "9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt", false},
		"empty":                {"alpaca", "", false},
		"polygon":              {"polygon", "b2k9xq7hnd3vlt0m5r8wzcfyje1gaspo", true},
		"polygon, mixed":       {"polygon", "B2k9xq7hnd3_lt0m5r8wzcfyje1gaspO", true},
		"polygon, short":       {"polygon", "b2k9xq7hnd3vlt0m5r8wzcfyje1gasp", false},
		"polygon, long":        {"polygon", "b2k9xq7hnd3vlt0m5r8wzcfyje1gaspoo", false},
		"polygon, punctuation": {"polygon", "b2k9xq7hnd3vlt0m5r8wzcfyje1gasp-", false},
	} {
		if got := formats[test.format].APIKey.MatchString(test.apiKey); got != test.want {
			t.Errorf("%s: matches %v, want %v", name, got, test.want)
		}
	}
	for secret, want := range map[string]bool{
		"9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt":     true,
		"9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiN/H+XXXX": true,
		"9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlH":      false,
		"": false,
		"9tzkSGWEMw5dnXyZ0aCrh3oLPuQvB1jF2sKiNlHt\n": false,
	} {
		if got := formats["alpaca"].SecretKey.MatchString(secret); got != want {
			t.Errorf("a secret of %d: matches %v, want %v", len(secret), got, want)
		}
	}
	// Two calls don't share a list, since the caller may change it.
	hooks.BrokerFormats()[0].Type = "changed"
	if hooks.BrokerFormats()[0].Type == "changed" {
		t.Error("a caller's change is visible in the next call")
	}
}
