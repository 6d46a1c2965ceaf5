package credent

// Bound turns on context binding for the given columns, which are named
// TABLE.COLUMN, as in "user_credentials.api_key".
//
// A bound token decrypts only in its own table, column and user's rows. Moving
// it elsewhere makes [Secret.Reveal] return [ErrContext], and so does a token
// that isn't bound, unless [AllowUnbound] opens a window.
//
// A bound token is a Fernet token under a key derived from the keyring's.
// Every program that reads or writes the column must derive it alike: other
// services with this option, the Python application as docs/binding.md shows,
// which also has the order of a rollout. Statements must say whose the row is
// or choose one row by its id; queries must select user_id too. If an
// account's user_id changes, in a transaction, the secrets of its credentials
// are encrypted anew.
//
// A name that isn't an encrypted column's with a tenant is an [ErrNoColumn] of
// Open, [NewClient] and [WrapDriver].
func Bound(columns ...string) Option {
	return func(o *options) {
		o.bound = append(o.bound, o.columns(columns, EncryptedColumn.CheckTenant)...)
		o.hooks.Rebind = o.hooks.Rebind || len(o.bound) > 0
	}
}

// AllowUnbound opens a window for columns whose tokens are being bound, or
// unbound: tokens read whether they are bound or not. It doesn't affect
// writes, see [Bound]. In the window nobody notices an unbound token that is
// moved. Names are as in Bound.
func AllowUnbound(columns ...string) Option {
	return func(o *options) {
		o.unbound = append(o.unbound, o.columns(columns, EncryptedColumn.CheckTenant)...)
		o.hooks.Rebind = o.hooks.Rebind || len(o.unbound) > 0
	}
}
