package encrypted_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"
	"entgo.io/ent/schema/field"
	"github.com/google/go-cmp/cmp"

	"github.com/credent-go/credent/encrypted"
)

// An encoded time fits its column, in every encoding that Go or Python use.
func TestDefaultTimeSize(t *testing.T) {
	t.Parallel()
	c := encrypted.Column{Size: encrypted.DefaultTimeSize}
	if n := len("9999-12-31T23:59:59.999999999+00:00"); c.MaxPlaintext() < n {
		t.Errorf("the column holds %d bytes, want %d", c.MaxPlaintext(), n)
	}
}

func TestDescriptor(t *testing.T) {
	t.Parallel()
	f := encrypted.JSON("hook", map[string]*url.URL{}).Size(900).Optional().Immutable().Comment("a comment").
		StorageKey("key").Deprecated("because").Annotations(encrypted.Plain("x"))
	d := f.Descriptor()
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	if !d.Optional || !d.Immutable || !d.Sensitive || !d.Deprecated || d.Nillable || d.Unique || d.Default != nil {
		t.Errorf("the flags differ from the field's: %+v", d)
	}
	texts := []string{
		d.Name, d.Comment, d.StorageKey, d.Tag, d.DeprecatedReason, d.Info.Ident,
		d.Info.PkgPath, d.Info.PkgName,
	}
	want := []string{
		"hook", "a comment", "key", "", "because", "encrypted.Value[map[string]*url.URL]",
		"github.com/credent-go/credent/encrypted", "encrypted",
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	types := map[string]string{
		dialect.Postgres: "varchar(900)", dialect.SQLite: "varchar(900)",
		dialect.MySQL: "encrypted_fields_need_postgres_or_sqlite",
	}
	if diff := cmp.Diff(types, d.SchemaType); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	annotation := encrypted.Annotation{Size: 900, Type: "map[string]*url.URL", Expr: `map[string]*"net/url".URL`}
	var names []string
	for _, a := range d.Annotations {
		names = append(names, a.Name())
		if own, ok := a.(encrypted.Annotation); ok {
			if diff := cmp.Diff(annotation, own); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		}
	}
	hidden := []string{"EntGQL", "EntOAS", "ProtoSkip", encrypted.AnnotationName, encrypted.PlainName}
	slices.Sort(hidden)
	slices.Sort(names)
	if diff := cmp.Diff(hidden, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// A mixin's field is declared once, but belongs to several entities.
	if d.ValueScanner == f.Descriptor().ValueScanner {
		t.Error("two descriptors have one ValueScanner")
	}
	if got := encrypted.String("a").Descriptor().Info.Ident; got != "encrypted.Secret" {
		t.Errorf("a text is a %s", got)
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		field *encrypted.Field
		size  int
	}{
		{encrypted.String("a"), 500},
		{encrypted.Bytes("a"), 500},
		{encrypted.Time("a"), 140},
		{encrypted.JSON("a", 1), 500},
		{encrypted.String("a").Size(100), 100},
		{encrypted.String("a").MaxBytes(303), 484},
		{encrypted.String("a").MaxBytes(0), 100},
		{encrypted.String("a").Size(encrypted.MaxSize), encrypted.MaxSize},
	} {
		d := test.field.Descriptor()
		if got := d.Annotations[0].(encrypted.Annotation).Size; got != test.size || d.Err != nil {
			t.Errorf("got %d, %v, want %d", got, d.Err, test.size)
		}
	}
}

func TestFieldErrors(t *testing.T) {
	t.Parallel()
	type local struct{ A int }
	type Generic[T any] struct{ A T }
	for name, test := range map[string]struct {
		field *encrypted.Field
		says  string
	}{
		"struct tag":      {encrypted.String("a").StructTag(`json:"b"`), `it has the struct tag json:"-"`},
		"no token fits":   {encrypted.String("a").Size(99), "99 characters hold no token, which has at least 100"},
		"negative":        {encrypted.Bytes("a").Size(-1), "-1 characters hold no token"},
		"too large":       {encrypted.String("a").MaxBytes(8_000_000), "more than the 10485760 that Postgres allows"},
		"JSON of text":    {encrypted.JSON("a", ""), "use encrypted.String"},
		"JSON of bytes":   {encrypted.JSON("a", []byte{}), "use encrypted.Bytes"},
		"JSON of a time":  {encrypted.JSON("a", time.Time{}), "use encrypted.Time"},
		"not exported":    {encrypted.JSON("a", []*local{}), "export it"},
		"type parameters": {encrypted.JSON("a", Generic[int]{}), "declare a type of its own"},
		"no name":         {encrypted.JSON("a", struct{ A int }{}), "struct has no name"},
		"function":        {encrypted.JSON("a", func() {}), "func has no name"},
		"channel in map":  {encrypted.JSON("a", map[string]chan int{}), "chan has no name"},
		"map by no name":  {encrypted.JSON("a", map[struct{ A int }]int{}), "struct has no name"},
	} {
		if err := test.field.Descriptor().Err; err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: got %v, want %q", name, err, test.says)
		}
	}
	for _, f := range []ent.Field{
		encrypted.JSON("a", [2]*[]map[string]any{}), encrypted.JSON("a", field.TypeInfo{}),
		encrypted.JSON[any]("a", nil),
	} {
		if err := f.Descriptor().Err; err != nil {
			t.Error(err)
		}
	}
}
