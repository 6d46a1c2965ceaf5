package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/credent-go/credent/rotate"
)

// Secrets under an earlier name are reported, as text and as JSON.
func TestVerifyEarlierNames(t *testing.T) {
	t.Parallel()
	counts := rotate.Counts{{
		Table: "people", Column: "mail", Rows: 3, Primary: 3, Bound: 3, Earlier: 2,
		Index: &rotate.IndexCount{Primary: 3, Earlier: 1},
	}}
	var lines []string
	for _, row := range verifyRows(counts) {
		lines = append(lines, strings.Join(row, " "))
	}
	data, err := json.Marshal(counts)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"people.mail 2 of these under an earlier name of the column: run `credent rotate`",
		"people.mail 1 in the blind index under an earlier name of the column: run `credent rotate`",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	for _, want := range []string{`"bound":3,"earlier_name":2,`, `"earlier_name":1,"missing":0`} {
		if !strings.Contains(string(data), want) {
			t.Errorf("%q is not in %s", want, data)
		}
	}
	counts[0].Earlier, counts[0].Index.Earlier = 0, 0
	if rows := verifyRows(counts); len(rows) != 3 || !counts[0].Ready() || counts.Err() != nil {
		t.Errorf("got %q, %v", rows, counts.Err())
	}
}
