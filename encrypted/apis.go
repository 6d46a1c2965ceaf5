package encrypted

import (
	"encoding/json"
	"maps"

	"entgo.io/ent/schema"
)

// Names of the annotations by which generators of APIs know what to leave out.
const (
	graphQLName = "EntGQL"    // of entgql
	openAPIName = "EntOAS"    // of entoas
	protoName   = "ProtoSkip" // of entproto
)

// Bits of entgql's SkipMode.
const (
	skipAll    = 1<<6 - 1
	skipInputs = 1<<4 | 1<<5 // in mutation inputs
)

// APIInput lets the mutation inputs that entgql generates set the field, by a
// String: text as it is, bytes as base64, times as in RFC 3339, and other
// values as their JSON. The API never returns it.
//
// Without APIInput no generated API has the field. entoas and entproto leave
// it out in either case: they describe requests and responses by one type.
func (f *Field) APIInput() *Field {
	f.apiInput = true
	return f
}

// hidden returns the annotations that leave a field out of generated APIs.
func hidden(apiInput bool) []schema.Annotation {
	graphQL := map[string]any{"Skip": skipAll}
	if apiInput {
		graphQL = map[string]any{"Skip": skipAll &^ skipInputs, "Type": "String"}
	}
	return []schema.Annotation{
		apiAnnotation{graphQLName, graphQL},
		// ogent sets what is skipped, unless it is read only as well.
		apiAnnotation{openAPIName, map[string]any{"Skip": true, "ReadOnly": true}},
		apiAnnotation{protoName, nil},
	}
}

// apiAnnotation stands for an annotation of a package that this one doesn't
// import. It comes first among a field's annotations, and takes up the others
// of its name.
type apiAnnotation struct {
	name   string
	values map[string]any
}

// Name implements ent's schema.Annotation.
func (a apiAnnotation) Name() string { return a.name }

// MarshalJSON implements json.Marshaler.
func (a apiAnnotation) MarshalJSON() ([]byte, error) {
	if a.values == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(a.values)
}

// Merge implements ent's schema.Merger. What is skipped stays skipped.
func (a apiAnnotation) Merge(other schema.Annotation) schema.Annotation {
	merged := apiAnnotation{a.name, maps.Clone(a.values)}
	data, err := json.Marshal(other)
	if err != nil {
		return a
	}
	var more map[string]any
	if json.Unmarshal(data, &more) != nil {
		return a
	}
	if merged.values == nil {
		merged.values = make(map[string]any, len(more))
	}
	for key, value := range more {
		switch before := merged.values[key].(type) {
		case int: // bits
			if also, ok := value.(float64); ok {
				merged.values[key] = before | int(also)
			}
		case bool:
			also, ok := value.(bool)
			merged.values[key] = before || ok && also
		default:
			merged.values[key] = value
		}
	}
	return merged
}
