package credent

// Bound binds the tokens of columns to their table, their column and the row's user_id: what is written is bound, and a token
// that was moved to another user's row, to another column or table, is refused with [ErrContext] when it is revealed. So is a
// token that is not bound, unless [AllowUnbound] opens a window. Columns are named TABLE.COLUMN, as in
// "user_credentials.api_key".
//
// A bound token is a Fernet token under a key that is derived from the one in the keyring. Every program that reads or writes
// the column must derive it likewise: other services with this option, the Python application as docs/binding.md shows, where
// also is in which order to go about it with rows that are there. Statements must say whose the row is, or choose one row by
// its id; a query must select user_id too. Where the user_id of an account changes, in a transaction, the secrets of its
// credentials are encrypted anew.
//
// A name that is not that of an encrypted column with a tenant makes Open fail with [ErrNoColumn], and [NewClient] and
// [WrapDriver], which have no error to return, panic.
func Bound(columns ...string) Option {
	return func(o *options) {
		o.bound = append(o.bound, o.columns(columns, EncryptedColumn.CheckTenant)...)
		o.hooks.Rebind = o.hooks.Rebind || len(o.bound) > 0
	}
}

// AllowUnbound opens a window for columns whose tokens are being bound, or whose binding is being undone: tokens are read
// whether they are bound or not. Whether what is written is bound is not for it to say, but for [Bound]. In the window an unbound
// token that is moved is not noticed. Names are those of Bound.
func AllowUnbound(columns ...string) Option {
	return func(o *options) {
		o.unbound = append(o.unbound, o.columns(columns, EncryptedColumn.CheckTenant)...)
		o.hooks.Rebind = o.hooks.Rebind || len(o.unbound) > 0
	}
}
