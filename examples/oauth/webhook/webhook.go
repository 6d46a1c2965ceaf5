// Package webhook contains the schema's type of a webhook.
package webhook

// Config is where a provider sends events, and how they are signed.
type Config struct {
	URL    string   `json:"url"`
	Secret string   `json:"secret"` // of the HMAC of each event
	Events []string `json:"events,omitempty"`
}
