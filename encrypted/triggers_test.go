package encrypted_test

import (
	"fmt"
	"testing"

	"entgo.io/ent/dialect"

	"github.com/credent-go/credent/encrypted"
)

func ExampleIndexTriggers() {
	column := encrypted.Column{Table: "integrations", Name: "refresh_token", Index: "refresh_token_index"}
	for _, stmt := range encrypted.IndexTriggers(dialect.SQLite, column) {
		fmt.Println(stmt + ";")
	}
	// Output:
	// DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_1";
	// CREATE TRIGGER "credent_integrations__refresh_token_1" BEFORE UPDATE OF "refresh_token" ON "integrations"
	// WHEN OLD."refresh_token_index" IS NOT NULL AND NEW."refresh_token" IS NOT OLD."refresh_token" COLLATE BINARY
	// BEGIN
	//   -- credent: blind index
	//   UPDATE "integrations" SET "refresh_token_index" = NULL WHERE "id" IS OLD."id";
	// END;
	// DROP TRIGGER IF EXISTS "credent_integrations__refresh_token_2";
	// CREATE TRIGGER "credent_integrations__refresh_token_2" AFTER UPDATE OF "refresh_token", "refresh_token_index" ON "integrations"
	// WHEN NEW."refresh_token" IS NULL AND NEW."refresh_token_index" IS NOT NULL
	// BEGIN
	//   -- credent: blind index
	//   UPDATE "integrations" SET "refresh_token_index" = NULL WHERE "id" IS NEW."id";
	// END;
}

func TestIndexTriggers(t *testing.T) {
	t.Parallel()
	plain := encrypted.Column{Table: "integrations", Name: "webhook"}
	if got := encrypted.IndexTriggers(dialect.Postgres, plain); len(got) != 0 {
		t.Errorf("a column without an index: %q", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("got statements for MySQL")
		}
	}()
	plain.Index = "webhook_index"
	encrypted.IndexTriggers(dialect.MySQL, plain)
}
