// Command credent-kms makes and changes wrapped keyrings; see package kms.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/credent-go/credent/kms/clouds" // AWS, Google Cloud, Azure
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{in: os.Stdin, out: os.Stdout, run: replaceProcess}
	err := a.command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "credent-kms:", err)
		os.Exit(1)
	}
}

// replaceProcess replaces this process by a program, so that no keys remain in
// memory.
func replaceProcess(path string, args, env []string) error {
	return syscall.Exec(path, args, env)
}
