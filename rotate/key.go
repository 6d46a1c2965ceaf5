package rotate

// scopedKey is the primary key of a row whose table has (tenant, key), for the
// database.
type scopedKey struct{ scope, key any }

// keyColumns returns the columns of the primary key of the table t, in its
// order.
func (t table) keyColumns() []string {
	return []string{"t." + quote(t.key)}
}

// keyValues returns the values of a row's key, in the order of keyColumns.
func keyValues(key any) []any {
	if k, ok := key.(scopedKey); ok {
		return []any{k.scope, k.key}
	}
	return []any{key}
}
