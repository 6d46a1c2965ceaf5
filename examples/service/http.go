package main

import (
	"encoding/json"
	"errors"
	"log"
	"net/http"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/ent"
)

// maxBody is the size in bytes of the largest body that is read.
const maxBody = 16 << 10

// handler serves
//
//	PUT /credentials/BROKER   {"api_key": "…", "secret_key": "…"}   204
//	GET /credentials/BROKER   200 if the keys open, 404 without any
//
// It never sends a secret. A bad request is a 400 that names the field:
// {"error": "missing required field", "field": "api_key"}.
func handler(keys *brokerKeys) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /credentials/{broker}", func(w http.ResponseWriter, r *http.Request) {
		// A field that the body lacks, or has as null, is an absent secret.
		var body struct {
			APIKey    credent.Secret `json:"api_key"`
			SecretKey credent.Secret `json:"secret_key"`
		}
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		// The error isn't sent or logged, since it may quote the body.
		if err := decoder.Decode(&body); err != nil {
			answer(w, http.StatusBadRequest, problem{Error: "the body must be a JSON object with api_key and " +
				"secret_key"})
			return
		}
		if err := keys.store(r.Context(), userOf(r), r.PathValue("broker"), body.APIKey, body.SecretKey); err != nil {
			refuse(w, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /credentials/{broker}", func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := keys.load(r.Context(), userOf(r), r.PathValue("broker")); err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, map[string]string{"broker": r.PathValue("broker")})
	})
	return mux
}

// userOf returns the user of a request. A real service takes it from its
// session, and never from what the client says.
func userOf(r *http.Request) string { return r.Header.Get("X-User") }

// forUser runs the statements of a request as its user's, for row-level
// security.
func forUser(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(credent.WithUser(r.Context(), userOf(r))))
	})
}

// problem is the body of a refusal.
type problem struct {
	Error string `json:"error"`
	Field string `json:"field,omitempty"`
}

// refuse answers with what the client can mend, and logs the rest.
func refuse(w http.ResponseWriter, err error) {
	var invalid *ent.ValidationError
	var secret *credent.Error
	switch {
	case errors.As(err, &invalid):
		text := "invalid"
		if invalid.Name == "api_key" || invalid.Name == "secret_key" {
			text = "missing required field"
		}
		answer(w, http.StatusBadRequest, problem{text, invalid.Name})
	case errors.As(err, &secret) && (errors.Is(err, credent.ErrTooLong) || errors.Is(err, credent.ErrNotText) ||
		errors.Is(err, credent.ErrRedacted)):
		answer(w, http.StatusBadRequest, problem{secret.Err.Error(), secret.Column})
	case ent.IsNotFound(err):
		answer(w, http.StatusNotFound, problem{Error: "no such credential"})
	default:
		log.Print(err) // without plaintext, keys and tokens
		answer(w, http.StatusInternalServerError, problem{Error: "try again later"})
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}
