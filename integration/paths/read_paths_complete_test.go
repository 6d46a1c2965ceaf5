package paths

import (
	"strings"
	"testing"
)

// TestReadPathsAreComplete fails if ent generates a method that no path calls.
func TestReadPathsAreComplete(t *testing.T) {
	t.Parallel()
	var covered []string
	for _, path := range readPaths() {
		covered = append(covered, strings.Fields(path.covers)...)
	}
	var written []string
	seen := make(map[string]bool)
	for _, method := range covered {
		seen[method] = true
	}
	for _, path := range writePaths() {
		for _, method := range strings.Fields(path.covers) {
			if !seen[method] {
				seen[method] = true
				written = append(written, method)
			}
		}
	}
	checkComplete(t, covered, map[string]string{
		"writes, and is a write path": strings.Join(written, " "),
		"is in TestTokensAreNoPlaintext, or panics where that one has an error": "" +
			"UserCredential.Value *.Bool *.BoolX *.Bools *.BoolsX " +
			"*.Float64 *.Float64X *.Float64s *.Float64sX *.Int *.IntX *.Ints *.IntsX UserCredentialGroupBy.String " +
			"UserCredentialSelect.String *.StringX *.Strings *.StringsX",
		"is of a blind index, which is not read": "UserCredentialMutation.APIKeyIndex *.ResetAPIKeyIndex " +
			"*.ClearAPIKeyIndex *.SetAPIKeyIndex *.APIKeyIndexCleared *.OldAPIKeyIndex",
		"reads no secret": "*.Count *.CountX *.Exist *.ExistX *.FirstID *.FirstIDX *.IDs *.IDsX *.OnlyID *.OnlyIDX",
		"is of the query that it embeds": "UserCredentialSelect.ExecContext UserCredentialSelect.All " +
			"UserCredentialSelect.AllX UserCredentialSelect.Clone UserCredentialSelect.First " +
			"UserCredentialSelect.FirstX UserCredentialSelect.ForShare UserCredentialSelect.ForUpdate " +
			"UserCredentialSelect.GroupBy UserCredentialSelect.Limit UserCredentialSelect.Offset " +
			"UserCredentialSelect.Only UserCredentialSelect.OnlyX UserCredentialSelect.Order " +
			"UserCredentialSelect.QueryAccount UserCredentialSelect.Select UserCredentialSelect.Unique " +
			"UserCredentialSelect.Where UserCredentialSelect.WithAccount",
		"prints, and is in the leak tests": "UserCredential.String",
		"belongs to transactions, which every path is read in too": "UserCredential.Unwrap Tx.OnCommit Tx.OnRollback " +
			"Tx.Rollback",
		"deletes": "UserCredentialClient.Delete UserCredentialClient.DeleteOne UserCredentialClient.DeleteOneID " +
			"UserCredentialDelete.Exec UserCredentialDelete.ExecX UserCredentialDelete.Where " +
			"UserCredentialDeleteOne.Exec UserCredentialDeleteOne.ExecX UserCredentialDeleteOne.Where",
		"says what a mutation sets, or makes it set less": "UserCredentialMutation.APIKey " +
			"UserCredentialMutation.SecretKey UserCredentialMutation.OldSecretKey *.AccountCleared " +
			"UserCredentialMutation.AccountIDs UserCredentialMutation.AccountID *.AddedEdges *.AddedField " +
			"*.AddedFields *.AddedIDs *.ClearEdge *.ClearField *.ClearedEdges *.ClearedFields " +
			"UserCredentialMutation.CreatedAt UserCredentialMutation.CredentialType *.EdgeCleared " +
			"UserCredentialMutation.ExpiresAt *.ExpiresAtCleared *.Field *.FieldCleared *.Fields " +
			"UserCredentialMutation.ID UserCredentialMutation.IsActive *.OldCreatedAt *.OldCredentialType " +
			"*.OldExpiresAt *.OldIsActive *.OldUpdatedAt *.OldUserAccountID *.OldUserID *.Op *.RemovedEdges " +
			"*.RemovedIDs *.ResetAPIKey *.ResetAccount *.ResetCreatedAt *.ResetCredentialType *.ResetEdge " +
			"*.ResetExpiresAt *.ResetField *.ResetIsActive *.ResetSecretKey *.ResetUpdatedAt *.ResetUserAccountID " +
			"*.ResetUserID *.SetOp *.Type *.UpdatedAt *.UserAccountID *.UserID UserCredentialMutation.Where *.WhereP " +
			"UserCredentialMutation.AddField",
		"has no database in it": "Client.Close *.Hooks Client.Intercept *.Interceptors *.Use Client.Debug",
	})
}
