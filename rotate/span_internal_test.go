package rotate

import (
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Keys of every supported type survive a round trip.
func TestKeysAsText(t *testing.T) {
	t.Parallel()
	for _, key := range []any{
		nil, "", "a", "\"], [\"", "\u00c4\x00\u2028<&>", "\xff\xfe",
		[]byte{},
		[]byte{0, 255},
		int64(math.MinInt64), 0.1, math.Inf(1), math.Copysign(0, -1),
		scopedKey{"user", "id"},
		scopedKey{"", ""},
		scopedKey{int64(1), []byte("x")},
		scopedKey{"\xff", 2.5},
	} {
		text, err := encodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeKey(text)
		if diff := cmp.Diff(key, got, cmp.AllowUnexported(scopedKey{})); diff != "" || err != nil {
			t.Errorf("%#v as %s: %v, %s", key, text, err, diff)
		}
	}
	if text, err := encodeKey(time.Now()); err == nil {
		t.Errorf("a time as %s", text)
	}
	for _, text := range []string{"x", "[]", `[""]`, `["t","t","t"]`, `["q1"]`, `["i"]`, `["bz"]`} {
		if key, err := decodeKey(text); err == nil {
			t.Errorf("%s is %#v", text, key)
		}
	}
}

// The parts of a sample cover it in equal pieces.
func TestQuantiles(t *testing.T) {
	t.Parallel()
	sample := make([]row, 10)
	for i := range sample {
		sample[i].key = int64(i)
	}
	for parts, want := range map[int][]any{1: nil, 2: {int64(4)}, 5: {int64(1), int64(3), int64(5), int64(7)}} {
		if got := quantiles(sample, parts); !cmp.Equal(got, want) {
			t.Errorf("%d parts: %v, want %v", parts, got, want)
		}
	}
	if got := quantiles(sample, 100); len(got) != 9 {
		t.Errorf("%d bounds of 10 keys", len(got))
	}
	if got := quantiles(nil, 3); got != nil {
		t.Errorf("bounds of nothing: %v", got)
	}
}

// The database can tell what was written since a horizon of the same tables, on
// the same server, not too long ago.
func TestHorizonIsSeen(t *testing.T) {
	t.Parallel()
	then := horizon{place: "server.1.tables", transaction: 5<<32 + 7, at: time.Date(2026, 11, 27, 1, 2, 3, 0,
		time.UTC), blocks: 9}
	read, err := parseHorizon(then.String())
	if err != nil || read != then || read.xid() != "7" {
		t.Fatalf("%+v, %v", read, err)
	}
	for name, c := range map[string]struct {
		then, now horizon
		want      bool
	}{
		"later":        {then, horizon{place: then.place, transaction: then.transaction + maxAge - 1}, true},
		"too late":     {then, horizon{place: then.place, transaction: then.transaction + maxAge}, false},
		"earlier":      {then, horizon{place: then.place, transaction: then.transaction - 1}, true},
		"too early":    {then, horizon{place: then.place, transaction: then.transaction - maxAge}, false},
		"elsewhere":    {then, horizon{place: "server.2.tables", transaction: then.transaction}, false},
		"unknown":      {horizon{}, horizon{}, false},
		"unknown then": {horizon{}, then, false},
		"unknown now":  {then, horizon{}, false},
	} {
		if got := c.then.isSeenFrom(c.now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
	for _, text := range []string{"x", "a/1/2026-11-27T01:02:03Z", "a/b/c/d", "a/1/c/1", "a/1/2026-11-27T01:02:03Z/d"} {
		if h, err := parseHorizon(text); err == nil {
			t.Errorf("%s is %+v", text, h)
		}
	}
}

// Every field is added up over the parts.
func TestCountsOfPartsAddUp(t *testing.T) {
	t.Parallel()
	fill := func(n int64) *ColumnCount {
		c := &ColumnCount{Previous: map[string]int64{"a": n}, Index: &IndexCount{Previous: map[string]int64{"a": n}}}
		for _, of := range []reflect.Value{reflect.ValueOf(c).Elem(), reflect.ValueOf(c.Index).Elem()} {
			for i := range of.NumField() {
				if of.Field(i).Kind() == reflect.Int64 {
					of.Field(i).SetInt(n)
				}
			}
		}
		for range 7 {
			c.UndecodableRows = append(c.UndecodableRows, "row")
		}
		return c
	}
	got, want := fill(2), fill(5)
	got.merge(fill(3))
	for range 3 {
		want.UndecodableRows = append(want.UndecodableRows, "row")
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
