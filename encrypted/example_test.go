package encrypted_test

import (
	"fmt"
	"time"

	"entgo.io/ent"
	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/encrypted"
)

// Integration is an entity of somebody's ent schema.
type Integration struct{ ent.Schema }

// WebhookConfig is a type of theirs.
type WebhookConfig struct{ URL, Secret string }

// Fields of the Integration.
func (Integration) Fields() []ent.Field {
	return []ent.Field{
		encrypted.String("refresh_token"),
		encrypted.JSON("webhook", WebhookConfig{}).Optional(),
		encrypted.Bytes("client_certificate").MaxBytes(4000),
		encrypted.Time("expires_at"),
	}
}

// A field is one line in the schema. Package codegen's extension adds the
// CHECK, and refuses unsupported options.
func Example() {
	for _, f := range (Integration{}).Fields() {
		d := f.Descriptor()
		fmt.Println(d.Name, d.Info, d.SchemaType[dialect.Postgres])
	}
	// Output:
	// refresh_token encrypted.Secret varchar(500)
	// webhook encrypted.Value[encrypted_test.WebhookConfig] varchar(500)
	// client_certificate encrypted.Value[[]byte] varchar(5432)
	// expires_at encrypted.Value[time.Time] varchar(140)
}

func ExampleNewValue() {
	webhook := encrypted.NewValue(WebhookConfig{URL: "https://example.com", Secret: "made-up"})
	fmt.Println(webhook)
	config, err := webhook.Reveal()
	fmt.Println(config.Secret, err)
	// Output:
	// [REDACTED]
	// made-up <nil>
}

func ExampleValue_absent() {
	var expires encrypted.Value[time.Time] // the value for NULL
	fmt.Println(expires.IsZero())
	// Output: true
}

func ExampleColumn() {
	c := encrypted.Column{Table: "integrations", Name: "refresh_token", Size: 500, Type: "string"}
	fmt.Println(c, c.MaxPlaintext())
	// Output: integrations.refresh_token 303
}
