package migrate_test

import (
	"fmt"
	"io/fs"

	"github.com/credent-go/credent/migrate"
)

func ExampleLayouts() {
	fmt.Println(migrate.Layouts())
	// Output: [single partitions citus]
}

func ExampleLayoutFiles() {
	dir, err := migrate.LayoutFiles(migrate.Partitioned)
	if err != nil {
		fmt.Println(err)
		return
	}
	names, err := fs.Glob(dir, "*.sql")
	fmt.Println(names, err)
	// Output: [20261127230000_partitions.sql] <nil>
}
