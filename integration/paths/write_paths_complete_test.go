package paths

import (
	"strings"
	"testing"
)

// TestWritePathsAreComplete fails if ent generates a method that no path calls.
func TestWritePathsAreComplete(t *testing.T) {
	t.Parallel()
	var covered []string
	for _, path := range writePaths() {
		covered = append(covered, strings.Fields(path.covers)...)
	}
	checkComplete(t, covered, map[string]string{
		"reads, or narrows what is read": "UserCredentialClient.Get UserCredentialClient.GetX " +
			"UserCredentialClient.Query UserCredentialClient.QueryAccount *.Aggregate *.All *.AllX *.Bool *.BoolX " +
			"*.Bools *.BoolsX *.Clone *.Count *.CountX *.Exist *.ExistX *.First *.FirstID *.FirstIDX *.FirstX " +
			"*.Float64 *.Float64X *.Float64s *.Float64sX *.ForShare *.ForUpdate *.GroupBy *.IDs *.IDsX *.Int *.IntX " +
			"*.Ints *.IntsX UserCredentialQuery.Limit UserCredentialSelect.Limit *.Offset *.Only *.OnlyID *.OnlyIDX " +
			"*.OnlyX UserCredentialQuery.Order UserCredentialSelect.Order UserCredentialQuery.QueryAccount " +
			"UserCredentialSelect.QueryAccount UserCredential.QueryAccount *.Scan *.ScanX *.Unique *.WithAccount " +
			"UserCredentialQuery.Select UserCredentialSelect.Select UserCredentialGroupBy.String " +
			"UserCredentialSelect.String *.StringX *.Strings *.StringsX UserCredentialQuery.Modify " +
			"UserCredentialSelect.Modify UserCredentialQuery.Where UserCredentialSelect.Where *.AccountOrErr " +
			"UserCredential.String UserCredential.Value UserCredential.Unwrap UserCredentialSelect.ExecContext " +
			"UserCredentialSelect.QueryContext", // of its embedded query
		"deletes, and the predicates are in paths of their own": "UserCredentialClient.Delete " +
			"UserCredentialClient.DeleteOne UserCredentialClient.DeleteOneID UserCredentialDelete.Exec " +
			"UserCredentialDelete.ExecX UserCredentialDelete.Where UserCredentialDeleteOne.Exec " +
			"UserCredentialDeleteOne.ExecX UserCredentialDeleteOne.Where",
		"says what a mutation sets, or makes it set less": "UserCredentialMutation.APIKey " +
			"UserCredentialMutation.SecretKey *.AccountCleared UserCredentialMutation.AccountIDs " +
			"UserCredentialMutation.AccountID *.AddedEdges *.AddedField *.AddedFields *.AddedIDs *.ClearEdge " +
			"*.ClearField *.ClearedEdges *.ClearedFields UserCredentialMutation.CreatedAt " +
			"UserCredentialMutation.CredentialType *.EdgeCleared UserCredentialMutation.ExpiresAt *.ExpiresAtCleared " +
			"*.Field *.FieldCleared *.Fields UserCredentialMutation.ID UserCredentialMutation.IsActive *.OldAPIKey " +
			"*.OldCreatedAt *.OldCredentialType *.OldExpiresAt *.OldField *.OldIsActive *.OldSecretKey " +
			"*.OldUpdatedAt *.OldUserAccountID *.OldUserID *.Op *.RemovedEdges *.RemovedIDs *.ResetAPIKey " +
			"*.ResetAccount *.ResetCreatedAt *.ResetCredentialType *.ResetEdge *.ResetExpiresAt *.ResetField " +
			"*.ResetIsActive *.ResetSecretKey *.ResetUpdatedAt *.ResetUserAccountID *.ResetUserID *.SetOp *.Type " +
			"*.UpdatedAt *.UserAccountID *.UserID UserCredentialMutation.Where *.WhereP",
		"has no value but one: the driver writes blind indexes": "UserCredentialMutation.APIKeyIndex " +
			"*.ResetAPIKeyIndex *.ClearAPIKeyIndex *.SetAPIKeyIndex *.APIKeyIndexCleared *.OldAPIKeyIndex",
		"adds to numeric fields, and there are none": "UserCredentialMutation.AddField",
		"has no database in it": "Client.Close *.Hooks *.Intercept *.Interceptors *.Use Tx.OnCommit Tx.OnRollback " +
			"Tx.Rollback Client.Debug", // the last two are in every path's setting
	})
}
