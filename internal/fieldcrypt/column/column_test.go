package column_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

func TestAll(t *testing.T) {
	t.Parallel()
	ours := slices.DeleteFunc(column.Of("test"),
		func(c column.Column) bool { return c.Table != "vault" && c.Table != "safe" })
	want := []column.Column{
		{Client: "test", Table: "safe", Name: "narrow", Size: 120},
		{Client: "test", Table: "vault", Name: "narrow", Size: 100},
		{Client: "test", Table: "vault", Name: "wide", Size: 500},
	}
	if diff := cmp.Diff(want, ours); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range want {
		if !slices.Contains(column.All(), c) || !slices.Contains(column.InTable("test", c.Table), c) {
			t.Errorf("%s isn't known", c)
		}
	}
	if other := column.Of("another"); len(other) > 0 {
		t.Errorf("another package has %v", other)
	}
	if other := column.InTable("another", "vault"); len(other) > 0 {
		t.Errorf("another package's table has %v", other)
	}
}

// Tables with the same name in two packages or two schemas are different.
func TestClientsAndSchemas(t *testing.T) {
	t.Parallel()
	for _, c := range []column.Column{
		{Client: "one", Table: "shared", Name: "token", Size: 500},
		{Client: "two", Table: "shared", Name: "token", Size: 500},
		{Client: "two", Schema: "billing", Table: "shared", Name: "token", Size: 200},
		{
			Client: "five", Table: "sourced", Name: "token", Size: 500, Tenant: "user_id", Source: "accounts",
			SourceTenant: "owner", Via: "account_id",
		},
	} {
		registerAs(c)
	}
	if got := column.InTable("two", "shared"); len(got) != 2 || len(column.InTable("one", "shared")) != 1 {
		t.Errorf("got %v", got)
	}
	if got := column.SourcedFrom("five", "accounts"); len(got) != 1 || got[0].Table != "sourced" {
		t.Errorf("got %v", got)
	}
	if got := column.SourcedFrom("two", "accounts"); len(got) > 0 {
		t.Errorf("got %v", got)
	}
	same, err := column.Distinct(slices.Concat(column.Of("one"), column.Of("two")))
	if err != nil || len(same) != 2 {
		t.Errorf("got %v, %v", same, err)
	}
	_, err = column.Distinct([]column.Column{
		{Client: "three", Table: "differs", Name: "token", Size: 500}, {
			Client: "four", Table: "differs",
			Name: "token", Size: 200,
		},
	})
	if !errors.Is(err, column.ErrNoColumn) || !strings.Contains(err.Error(), "differs.token") ||
		!strings.Contains(err.Error(), "three") {
		t.Errorf("two packages that disagree: got %v", err)
	}
	c := column.Column{Schema: "billing", Table: `in"voices`, Name: "memo", Size: 500}
	for want, got := range map[string]string{
		`billing.in"voices.memo`: c.String(), `billing.in"voices`: c.TableName(), `"billing"."in""voices"`: c.Quoted(),
		`"in""voices"`: c.InSchema("").Quoted(), `in"voices.memo`: c.InSchema("").String(), "id": c.Key(), `"a""b"`: column.QuoteName(`a"b`),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if c.IsSame(c.InSchema("")) || !c.IsSame(column.Column{Schema: "billing", Table: `in"voices`, Name: "memo"}) {
		t.Error("a column is the same in another schema")
	}
	if got := c.MaxPlaintext(); got != 303 {
		t.Errorf("got %d bytes", got)
	}
	var detail *fieldcrypt.Error
	if err := c.Wrap("encrypt", fernet.ErrCorrupt); !errors.As(err, &detail) || detail.Table != `billing.in"voices` || !errors.Is(err, fernet.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if err := heldSecret.CheckTenant(); err != nil {
		t.Error(err)
	}
	if err := c.CheckTenant(); !errors.Is(err, column.ErrNoColumn) {
		t.Errorf("got %v", err)
	}
}

func TestRegisterAgain(t *testing.T) {
	t.Parallel()
	before := len(column.Of("test"))
	if got := column.Register(column.Binding{Column: column.Column{
		Client: "test", Table: "vault", Name: "wide",
		Size: 500,
	}}); got.Name != "wide" {
		t.Errorf("got %v", got)
	}
	if got := len(column.Of("test")); got != before {
		t.Errorf("registered twice: %d columns, before %d", got, before)
	}
}

func TestRegisterPanics(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		column column.Column
		says   string
	}{
		"no token fits": {column.Column{Table: "vault", Name: "short", Size: 99}, "99 characters hold no token"},
		"size 0":        {column.Column{Table: "vault", Name: "short", Size: 0}, "0 characters hold no token"},
		"negative size": {column.Column{Table: "vault", Name: "short", Size: -500}, "-500 characters hold no token"},
		"another size": {
			column.Column{Table: "vault", Name: "wide", Size: 501},
			"registered for two fields that differ",
		},
		"another type": {
			column.Column{Table: "vault", Name: "wide", Size: 500, Type: "[]byte"},
			"registered for two fields that differ",
		},
		"another key": {
			column.Column{Table: "vault", Name: "wide", Size: 500, ID: "serial"},
			"registered for two fields that differ",
		},
		"another index": {
			column.Column{Table: "vault", Name: "wide", Size: 500, Index: "x"},
			"registered for two fields that differ",
		},
		"nobody's bound": {column.Column{Table: "vault", Name: "lone", Size: 500, Bound: true}, "without a tenant"},
	} {
		func() {
			defer func() {
				text, _ := recover().(string)
				if !strings.HasPrefix(text, "credent: column vault."+test.column.Name) ||
					!strings.Contains(text, test.says) {
					t.Errorf("%s: got panic %q, want %q", name, text, test.says)
				}
			}()
			test.column.Client = "test"
			column.Register(column.Binding{Column: test.column})
		}()
	}
	register("vault", "narrow", 100) // fits exactly one token
}

func TestFind(t *testing.T) {
	got, err := column.Find("vault.wide")
	if want := (column.Column{Client: "test", Table: "vault", Name: "wide", Size: 500}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, name := range []string{
		"", "vault", "wide", "vault.", "vault.width", "VAULT.wide", "vault.wide ",
		"public.vault.wide",
	} {
		_, err := column.Find(name)
		if !errors.Is(err, column.ErrNoColumn) || !strings.Contains(err.Error(), "vault.wide") {
			t.Errorf("%q: got %v, want ErrNoColumn with the known names", name, err)
		}
	}
}

// If packages disagree about one column, other columns are still found.
func TestFindBesideDisagreement(t *testing.T) {
	t.Parallel()
	column.Register(
		column.Binding{Column: column.Column{Client: "five", Table: "disputed", Name: "token", Size: 500}},
		column.Binding{Column: column.Column{Client: "six", Table: "disputed", Name: "token", Size: 200}},
		column.Binding{Column: column.Column{Client: "six", Table: "undisputed", Name: "token", Size: 200}},
	)
	if c, err := column.Find("undisputed.token"); err != nil || c.Client != "six" {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := column.Find("disputed.token"); !errors.Is(err, column.ErrNoColumn) ||
		!strings.Contains(err.Error(), "five") {
		t.Errorf("a column that two packages disagree about: got %v", err)
	}
}

func TestEarlierNames(t *testing.T) {
	t.Parallel()
	for was, want := range map[string][]string{
		"": nil, "t.a": {"billing.t.a"}, "t.a,old.table.b,t.c": {"billing.t.a", "billing.old.table.b", "billing.t.c"},
	} {
		var got []string
		for old := range (column.Column{Schema: "billing", Table: "t", Name: "now", Size: 500, Was: was}).Earlier() {
			got = append(got, old.String())
			if old.Was != "" || old.Size != 500 {
				t.Errorf("%q gives %+v", was, old)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q gives %q, want %q", was, got, want)
		}
		for range (column.Column{Was: was}).Earlier() {
			break
		}
	}
}
