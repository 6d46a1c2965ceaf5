package migrate_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
)

func ExampleApply() {
	db, _, err := credent.OpenDB("sqlite::memory:", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	err = migrate.Apply(ctx, db, migrate.Config{Progress: func(file string) { fmt.Println("applied", file) }})
	if err != nil {
		log.Fatal(err)
	}
	// Output:
	// applied 20261124030000_create_tables.sql
	// applied 20261124030200_tenancy.sql
	// applied 20261124030300_blind_index.sql
	// applied 20261124030400_tenant_keys.sql
	// applied 20261124030500_verifications.sql
	// applied 20261127111847_index_triggers.sql
	// applied 20261127140000_states.sql
	// applied 20261127150000_canary.sql
	// applied 20261127200300_account_key.sql
	// applied 20261127210000_progress.sql
	// applied 20261127214000_verification_history.sql
	// applied 20261127220000_audit.sql
}

func ExampleReadStatus() {
	db, _, err := credent.OpenDB("sqlite::memory:", credent.WithDriver(sqlite.Driver()))
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for range 2 {
		status, err := migrate.ReadStatus(ctx, db, migrate.Config{})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(len(status.Applied), "applied,", len(status.Pending), "pending",
			errors.Is(status.Err(), migrate.ErrPending))
		if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// 0 applied, 12 pending true
	// 12 applied, 0 pending false
}
