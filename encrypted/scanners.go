package encrypted

import (
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt/blindindex"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
)

// TextScanner is for generated code. It sets the ValueScanner of a [String]
// field, and returns a [Binding]'s Scanner. ent would take the ValueScanner
// from the schema, and link the schema for it.
func TextScanner(of *field.TypeValueScanner[Secret], name string, size int) func() any {
	f := column.NewField(name, size)
	*of = f
	return func() any { return f }
}

// ValueScanner is [TextScanner] for a field of [Bytes], [Time] or [JSON].
func ValueScanner[T any](of *field.TypeValueScanner[Value[T]], name string, size int) func() any {
	f := column.NewValueField[T](name, size)
	*of = f
	return func() any { return f }
}

// IndexScanner is [TextScanner] for a blind index, and returns a [Binding]'s
// Digest. An index with [Index.Normalize] has its ValueScanner from the schema,
// as generated code can't name every function.
func IndexScanner(of *field.TypeValueScanner[Digest], cfg IndexConfig) func() any {
	f := blindindex.Field{Config: blindindex.Config{Bits: cfg.Bits, Unique: cfg.Unique, Where: cfg.Where}}
	*of = f
	return func() any { return f }
}

// IndexConfig says what an [Index] declares. A zero field means that the method
// of that name wasn't called.
type IndexConfig struct {
	Bits   int
	Unique bool
	Where  string
}
