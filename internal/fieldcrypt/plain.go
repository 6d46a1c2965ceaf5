package fieldcrypt

// PlainAnnotation marks a field that is named like a secret and is none.
type PlainAnnotation struct {
	Reason string // why it need not be encrypted
}

// PlainName is the name of [PlainAnnotation] among the annotations of a field.
const PlainName = "CredentPlain"

// Name implements ent's schema.Annotation.
func (PlainAnnotation) Name() string { return PlainName }

// Plain annotates a field that is named like a secret (…_key, …secret…, …token…, …password…) and need not be encrypted,
// for the given reason. Without it the code generation refuses such a field.
func Plain(reason string) PlainAnnotation { return PlainAnnotation{Reason: reason} }
