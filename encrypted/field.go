package encrypted

import (
	"errors"
	"fmt"
	"os"
	"path"
	"reflect"
	"runtime"
	"strings"
	"time"

	"entgo.io/ent/dialect"
	"entgo.io/ent/schema"
	"entgo.io/ent/schema/field"

	"github.com/credent-go/credent/internal/fieldcrypt"
	"github.com/credent-go/credent/internal/fieldcrypt/column"
	"github.com/credent-go/credent/internal/fieldcrypt/fernet"
)

// Sizes of columns in characters, if [Field.Size] sets none.
const (
	// DefaultSize holds 303 bytes of plaintext.
	DefaultSize = 500
	// DefaultTimeSize holds 47 bytes of plaintext, more than any time needs.
	DefaultTimeSize = 140
	// MaxSize is what Postgres allows a varchar.
	MaxSize = 10_485_760
)

// noMySQL is a column's type on MySQL and MariaDB. Atlas doesn't know the type,
// so ent can't create the table, and the error quotes the type. It contains no
// spaces, because a space would end it.
const noMySQL = "encrypted_fields_need_postgres_or_sqlite"

// Field is an encrypted field of an ent schema, made by [String], [Bytes],
// [Time] or [JSON]. Its column is a varchar, NOT NULL unless the field is
// Optional.
type Field struct {
	desc    field.Descriptor
	size    int
	goType  any
	scanner func(name string, size int) any
	text    Annotation

	apiInput bool
}

// String declares an encrypted text, of type [Secret] in the generated code.
func String(name string) *Field {
	return &Field{
		desc:    field.Descriptor{Name: name},
		size:    DefaultSize,
		goType:  Secret{},
		scanner: func(name string, size int) any { return column.NewField(name, size) },
		text:    Annotation{Type: "string"},
	}
}

// Bytes declares encrypted bytes, of type [Value] of []byte in the generated
// code.
func Bytes(name string) *Field { return value[[]byte](name) }

// Time declares an encrypted time, of type [Value] of time.Time in the
// generated code. It is stored in UTC, to the nanosecond.
func Time(name string) *Field { return value[time.Time](name).Size(DefaultTimeSize) }

// JSON declares an encrypted value that is stored as JSON, of type [Value] of T
// in the generated code. The sample is any T:
//
//	encrypted.JSON("webhook", webhook.Config{})
//
// T is a type that another package can name: a type it exports, a basic one, or
// slices, maps and pointers of these.
func JSON[T any](name string, sample T) *Field {
	f := value[T](name)
	switch any(sample).(type) {
	case []byte:
		f.fail(errors.New("use encrypted.Bytes for a []byte"))
	case time.Time:
		f.fail(errors.New("use encrypted.Time for a time.Time"))
	case string:
		f.fail(errors.New("use encrypted.String for a string"))
	}
	return f
}

func value[T any](name string) *Field {
	expr, err := typeExpr(reflect.TypeFor[T]())
	f := &Field{
		desc:    field.Descriptor{Name: name},
		size:    DefaultSize,
		goType:  Value[T]{},
		scanner: func(name string, size int) any { return column.NewValueField[T](name, size) },
		text:    Annotation{Type: fieldcrypt.TypeName[T](), Expr: expr},
	}
	if err != nil {
		f.fail(err)
	}
	return f
}

func (f *Field) fail(err error) {
	if f.desc.Err == nil {
		f.desc.Err = err
	}
}

// Size sets how many characters the column has, instead of [DefaultSize] or
// [DefaultTimeSize]. The plaintext can take 3/4 of them less 57 to 72 bytes;
// longer ones are refused before any SQL.
func (f *Field) Size(characters int) *Field {
	f.size = characters
	if characters > MaxSize {
		f.fail(fmt.Errorf("%d characters are more than the %d that Postgres allows", characters, MaxSize))
	}
	if fernet.MaxPlaintext(characters) < 0 {
		f.fail(fmt.Errorf("%d characters hold no token, which has at least %d", characters, fernet.TokenLen(0)))
	}
	return f
}

// MaxBytes sets the size of the column so that it holds a plaintext of n bytes.
func (f *Field) MaxBytes(n int) *Field { return f.Size(fernet.TokenLen(max(n, 0))) }

// Optional allows the value to be absent: the column is nullable, NULL is read
// as the zero [Secret] or [Value], with an IsZero of true, and the zero value
// is written as NULL.
func (f *Field) Optional() *Field {
	f.desc.Optional = true
	return f
}

// Immutable lets the value be set only on creation. Re-encryption under another
// key doesn't count as a change.
func (f *Field) Immutable() *Field {
	f.desc.Immutable = true
	return f
}

// Tenant names the entity's field that has the row's tenant, such as "user_id".
// It is a required field of text, UUIDs or integers. Binding and tenants' keys
// depend on it; alone it changes nothing.
func (f *Field) Tenant(field string) *Field {
	f.text.Tenant = field
	return f
}

// CopiedFrom names the edge to the entity that the database copies the row's
// tenant from, with a trigger or a foreign key with ON UPDATE CASCADE: a field
// of the same name. The client then refuses an update of that field, and of the
// edge, that would leave tokens of another tenant behind.
func (f *Field) CopiedFrom(edge string) *Field {
	f.text.CopiedFrom = edge
	return f
}

// Bound binds the field's tokens to their table, column and tenant, which
// [Field.Tenant] must name: a token moved to another tenant's row, another
// column or another table doesn't open there, with [ErrWrongLocation]. Other
// programs that read the column must derive the same key, see docs/binding.md,
// and every query must select the tenant's column too.
func (f *Field) Bound() *Field {
	f.text.Bound = true
	return f
}

// Comment is ent's.
func (f *Field) Comment(text string) *Field {
	f.desc.Comment = text
	return f
}

// StorageKey sets the name of the column.
func (f *Field) StorageKey(name string) *Field {
	f.desc.StorageKey = name
	return f
}

// StructTag is refused when code is generated: ent gives sensitive fields the
// tag json:"-", and no other.
func (f *Field) StructTag(string) *Field {
	f.fail(errors.New(`it has the struct tag json:"-", as every field that ent must not print, and can have no other: remove StructTag`))
	return f
}

// Annotations is ent's.
func (f *Field) Annotations(annotations ...schema.Annotation) *Field {
	f.desc.Annotations = append(f.desc.Annotations, annotations...)
	return f
}

// Deprecated is ent's.
func (f *Field) Deprecated(reason ...string) *Field {
	f.desc.Deprecated = true
	f.desc.DeprecatedReason = strings.Join(reason, " ")
	return f
}

// Unique is refused when code is generated, with the reason: equal values have
// different tokens.
func (f *Field) Unique() *Field {
	f.desc.Unique = true
	return f
}

// Nillable is refused when code is generated: [Field.Optional] is enough.
func (f *Field) Nillable() *Field {
	f.desc.Nillable = true
	return f
}

// Default is refused when code is generated: the secret would be in the source.
func (f *Field) Default(any) *Field {
	f.desc.Default = func() {}
	return f
}

// ExtensionEnv is set in the environment of the program that loads a schema for
// ent, if the code is generated with the extension of package codegen.
const ExtensionEnv = "CREDENT_CODEGEN"

// isLoadedAlone reports whether ent is loading the schema to generate code
// without the extension.
func isLoadedAlone() bool {
	if os.Getenv(ExtensionEnv) != "" {
		return false
	}
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(2, callers)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		// In package load, or in the program that ent builds from its source.
		if strings.HasSuffix(frame.Function, ".(*Schema).loadFields") ||
			strings.HasSuffix(frame.Function, ".(*Schema).loadMixin") {
			return true
		}
	}
	return false
}

// Descriptor implements ent.Field. Each call returns a descriptor with its own
// ValueScanner, so several entities can share a mixin's field.
//
// It is a Bytes field, though the column is text. For a String field with a Go
// type that has a String method, ent would generate predicates and an order,
// which would compare random tokens, and validators, which would see the
// redacted text.
func (f *Field) Descriptor() *field.Descriptor {
	varchar := fmt.Sprintf("varchar(%d)", f.size)
	annotation := f.text
	annotation.Size = f.size
	d := field.Bytes(f.desc.Name).
		GoType(f.goType).
		ValueScanner(f.scanner(f.desc.Name, f.size)).
		SchemaType(map[string]string{dialect.Postgres: varchar, dialect.SQLite: varchar, dialect.MySQL: noMySQL}).
		Sensitive().
		Annotations(annotation).
		Annotations(hidden(f.apiInput)...).
		Annotations(f.desc.Annotations...).
		Descriptor()
	d.Optional, d.Immutable, d.Comment, d.StorageKey = f.desc.Optional, f.desc.Immutable, f.desc.Comment,
		f.desc.StorageKey
	d.Deprecated, d.DeprecatedReason = f.desc.Deprecated, f.desc.DeprecatedReason
	d.Unique, d.Nillable, d.Default = f.desc.Unique, f.desc.Nillable, f.desc.Default
	if f.desc.Err == nil && isLoadedAlone() {
		f.fail(errors.New("the code is generated without the extension of package codegen, and would not encrypt: " +
			"run a program that calls entc.Generate with entc.Extensions(codegen.Extension{}), as " +
			"docs/your-own-schema.md shows. A program that makes no client, such as entproto's, needs " + ExtensionEnv +
			"=1 in its environment"))
	}
	if f.desc.Err != nil {
		d.Err = fmt.Errorf("encrypted field: %w", f.desc.Err)
	}
	// For a driver.Valuer, ent would generate predicates.
	delete(d.Info.RType.Methods, "Value")
	// Generated code in other modules can't import an internal package, so the
	// type is named through this package.
	d.Info.PkgPath = reflect.TypeFor[Field]().PkgPath()
	d.Info.PkgName = path.Base(d.Info.PkgPath)
	d.Info.Ident = d.Info.PkgName + ".Secret"
	if annotation.Expr != "" {
		d.Info.Ident = d.Info.PkgName + ".Value[" + annotation.Type + "]"
	}
	return d
}

// Annotation is what an encrypted field tells the code generation's extension.
type Annotation struct {
	Size int    // of the column, in characters
	Type string // Go type of the plaintext, as code in a package that imports all it needs writes it
	Expr string // the same with import paths instead of the packages' names: map[string]"example.com/webhook".Config

	Tenant string // field of the row's tenant; "" if there is none
	Bound  bool   // tokens are bound to table, column and tenant

	WasNamed []string // earlier names of the column, as TABLE.COLUMN or COLUMN

	CopiedFrom string // edge to the entity that the database copies the tenant from, or ""
}

// AnnotationName is the name of [Annotation] among the annotations of a field.
const AnnotationName = "CredentEncrypted"

// Name implements ent's schema.Annotation.
func (Annotation) Name() string { return AnnotationName }

// typeExpr returns a type's Expr. It fails if other packages' code can't name
// the type, or if JSON can't represent it.
func typeExpr(t reflect.Type) (string, error) {
	if t.Name() != "" {
		switch exported := t.Name()[:1] == strings.ToUpper(t.Name()[:1]); {
		case t.PkgPath() == "":
			return t.Name(), nil
		case strings.Contains(t.Name(), "["):
			return "", fmt.Errorf("%s has type parameters; declare a type of its own for it", t)
		case !exported || t.PkgPath() == "main":
			return "", fmt.Errorf("generated code cannot name %s; export it, from a package that can be imported", t)
		}
		return fmt.Sprintf("%q.%s", t.PkgPath(), t.Name()), nil
	}
	prefix := ""
	switch t.Kind() {
	case reflect.Pointer:
		prefix = "*"
	case reflect.Slice:
		prefix = "[]"
	case reflect.Array:
		prefix = fmt.Sprintf("[%d]", t.Len())
	case reflect.Map:
		key, err := typeExpr(t.Key())
		if err != nil {
			return "", err
		}
		prefix = "map[" + key + "]"
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return "any", nil
		}
		fallthrough
	default:
		return "", fmt.Errorf("%s has no name; declare a type for it", t.Kind())
	}
	elem, err := typeExpr(t.Elem())
	return prefix + elem, err
}
