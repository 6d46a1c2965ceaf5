package codegen_test

import (
	"fmt"
	"log"
	"os"

	"entgo.io/ent/entc"
	"entgo.io/ent/entc/gen"

	"github.com/credent-go/credent/codegen"
	"github.com/credent-go/credent/encrypted"
)

// The program that generates a client uses the extension. The extension refuses
// an unsupported schema before it writes anything.
func ExampleExtension() {
	err := entc.Generate("./testdata/refused", &gen.Config{Target: "/does/not/matter", Package: "example.com/ent"},
		entc.Extensions(codegen.Extension{}))
	fmt.Println(err != nil)
	// Output: true
}

// Another extension skips the encrypted fields.
func ExampleIsEncrypted() {
	if err := os.Setenv(encrypted.ExtensionEnv, "1"); err != nil { // as entc.Generate does with the extension
		log.Fatal(err)
	}
	graph, err := entc.LoadGraph("../ent/schema", &gen.Config{Package: "github.com/credent-go/credent/ent"})
	if err != nil {
		log.Fatal(err)
	}
	for _, node := range graph.Nodes {
		for _, f := range node.Fields {
			if codegen.IsEncrypted(f) {
				fmt.Println(node.Name, f.Name)
			}
		}
	}
	// Output:
	// UserCredential api_key
	// UserCredential secret_key
}
