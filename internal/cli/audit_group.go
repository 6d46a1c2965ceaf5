package cli

import (
	"github.com/spf13/cobra"

	"github.com/credent-go/credent/audit"
)

func (a *app) audit() *cobra.Command {
	return a.group(&cobra.Command{
		Use:   "audit",
		Short: "Require, list, verify, sign and archive the audit trail",
		Long: `The audit trail says who did what to which secret, when, and under which key. It is in the table credent_audit,
which services add to and can't change. Each entry is signed, and chained to the one before it by the same writer. docs/audit.md
says what that proves, and what it doesn't.`,
	}, a.auditSwitch(true), a.auditSwitch(false), a.auditList(), a.auditVerify(), a.auditCheckpoint(), a.auditArchive())
}

// auditActions and auditOutcomes are the values of audit list's flags.
var (
	auditActions = append([]audit.Action{
		audit.ActionReveal, audit.ActionCreate, audit.ActionUpdate, audit.ActionDelete, audit.ActionExport,
		audit.ActionImport, audit.ActionRotate, audit.ActionDestroy, audit.ActionMove, audit.ActionState,
	}, auditOwnActions...)
	// Actions about the trail itself.
	auditOwnActions = []audit.Action{
		audit.ActionOpen, audit.ActionClose, audit.ActionLink, audit.ActionCheckpoint, audit.ActionArchive,
	}
	auditOutcomes = []audit.Outcome{
		audit.OutcomeOK, audit.OutcomeUnknownKey, audit.OutcomeCorrupt, audit.OutcomeShredded,
		audit.OutcomeWrongLocation, audit.OutcomeRefused, audit.OutcomeFailed,
	}
)
