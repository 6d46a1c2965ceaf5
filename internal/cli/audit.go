package cli

import "github.com/spf13/cobra"

func (a *app) audit() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "audit",
		Short: "Require the audit trail of every client, or let them do without",
		Long: `The audit trail says who did what to which secret, when, and under which key. It is in the table credent_audit, which services
add to and can't change. docs/audit.md says what that proves, and what not.`,
	}, a.auditSwitch(true), a.auditSwitch(false))
}
