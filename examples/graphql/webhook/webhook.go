// Package webhook has the type of an encrypted JSON field.
package webhook

// Config says where events of an integration go. The secret signs them.
type Config struct {
	URL    string `json:"url"`
	Secret string `json:"secret"`
}
