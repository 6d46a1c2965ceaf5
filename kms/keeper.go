package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	"gocloud.dev/secrets/hashivault"
	"gocloud.dev/secrets/localsecrets"
)

const (
	opWrap   = "wrap"
	opUnwrap = "unwrap"

	// callTimeout limits a call if its context doesn't end sooner.
	callTimeout = 20 * time.Second
	// maxReason is the maximum size in bytes of a reason that is passed on.
	maxReason = 300
)

// call makes a URL's service encrypt or decrypt. It returns when the context
// ends, even if the driver doesn't.
func call(ctx context.Context, op, kmsURL string, input []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	scheme, keeper, err := openKeeper(ctx, kmsURL)
	if err != nil {
		return nil, err
	}
	type answer struct {
		output []byte
		err    error
	}
	input = append([]byte(nil), input...) // a copy, because the caller may clear its own while a driver still hangs
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if recover() != nil { // Vault's driver doesn't validate answers; the panic value may contain parts
				a = answer{err: errNoAnswer}
			}
			_ = keeper.Close()
			answers <- a
		}()
		if op == opWrap {
			a.output, a.err = keeper.Encrypt(ctx, input)
		} else {
			a.output, a.err = keeper.Decrypt(ctx, input)
		}
	}()
	select {
	case <-ctx.Done():
		return nil, &Error{Op: op, Scheme: scheme, Err: fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())}
	case a := <-answers:
		if a.err != nil {
			return nil, explain(ctx, op, scheme, a.err)
		}
		return a.output, nil
	}
}

var errNoAnswer = errors.New("its answer is not one of the key management service; is the address correct?")

// openKeeper returns a URL's driver. Its errors don't quote the URL, which may
// be a key.
func openKeeper(ctx context.Context, kmsURL string) (scheme string, keeper *secrets.Keeper, err error) {
	u, err := url.Parse(strings.TrimSpace(kmsURL))
	if err != nil || u.Scheme == "" {
		return "", nil, fmt.Errorf("kms: %w: it must be like hashivault://KEY", ErrURL)
	}
	switch {
	case u.Scheme == hashivault.Scheme:
		keeper, err = openVault(u)
		return u.Scheme, keeper, err
	case !secrets.DefaultURLMux().ValidKeeperScheme(u.Scheme):
		return "", nil, fmt.Errorf("kms: %w: no driver of its scheme; is %s imported?", ErrURL, "kms/clouds")
	case u.Host == "" && u.Path == "":
		// For a bare base64key://, the driver would generate a random key,
		// which would be lost with the process.
		return "", nil, fmt.Errorf("kms: %w: it names no key", ErrURL)
	}
	keeper, err = secrets.OpenKeeper(ctx, u.String())
	if err != nil {
		return "", nil, fmt.Errorf("kms: %w: the driver of %s does not accept it, or has no credentials to use it with",
			ErrURL, u.Scheme)
	}
	return u.Scheme, keeper, nil
}

// openVault creates a client for each call. gocloud's opener keeps the
// process's first token forever, and reuses one URL's engine for the next.
func openVault(u *url.URL) (*secrets.Keeper, error) {
	key := path.Join(u.Host, u.Path)
	if key == "" || u.User != nil {
		return nil, fmt.Errorf("kms: %w: it must be like hashivault://KEY", ErrURL)
	}
	engine := ""
	for param, values := range u.Query() {
		if param != "engine" || len(values) != 1 || values[0] == "" {
			return nil, fmt.Errorf("kms: %w: the only parameter of hashivault is engine", ErrURL)
		}
		engine = values[0]
	}
	address := cmp.Or(os.Getenv("VAULT_SERVER_URL"), os.Getenv("VAULT_ADDR"))
	if address == "" {
		return nil, fmt.Errorf("kms: %w: VAULT_ADDR is not set", ErrURL)
	}
	token, err := vaultToken()
	if err != nil {
		return nil, err
	}
	config := api.DefaultConfig()
	if config.Error != nil {
		return nil, fmt.Errorf("kms: %w: a variable VAULT_… is malformed", ErrURL)
	}
	config.Address = address
	config.Timeout = callTimeout
	config.MaxRetries = 1
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("kms: %w: VAULT_ADDR is malformed", ErrURL)
	}
	client.SetToken(token)
	return hashivault.OpenKeeper(client, key, &hashivault.KeeperOptions{Engine: engine}), nil
}

// vaultToken returns the token from the environment, or from the file that
// VAULT_TOKEN_FILE names, which an agent renews.
func vaultToken() (string, error) {
	token, file := cmp.Or(os.Getenv("VAULT_SERVER_TOKEN"), os.Getenv("VAULT_TOKEN")), os.Getenv("VAULT_TOKEN_FILE")
	if file == "" {
		return token, nil
	}
	if token != "" {
		return "", fmt.Errorf("kms: %w: both VAULT_TOKEN and VAULT_TOKEN_FILE are set", ErrURL)
	}
	text, err := readFile(file)
	if err != nil {
		return "", fmt.Errorf("kms: %w: the file that VAULT_TOKEN_FILE names: %w", ErrUnavailable, err)
	}
	return text, nil
}

// refuses reports whether an HTTP status is a refusal rather than a temporary
// error.
func refuses(status int) bool {
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError &&
		status != http.StatusTooManyRequests
}

// explain turns a driver's error into an [Error].
func explain(ctx context.Context, op, scheme string, err error) error {
	e := &Error{Op: op, Scheme: scheme, Err: ErrUnavailable}
	var response *api.ResponseError
	var netErr *net.OpError
	var statusErr interface{ HTTPStatusCode() int } // AWS; gocloud has no code for a missing permission
	switch {
	case ctx.Err() != nil:
		e.Err = fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
		return e
	case errors.Is(err, errNoAnswer):
		e.Reason = err.Error()
		return e
	case errors.As(err, &response):
		e.Status = response.StatusCode
		e.Reason = strings.Join(response.Errors, "; ")
		if refuses(e.Status) {
			e.Err = ErrRefused
		}
	case errors.As(err, &netErr):
		e.Reason = netErr.Error()
		return e // a network error, which only contains addresses
	case errors.As(err, &statusErr):
		e.Status = statusErr.HTTPStatusCode()
		e.Reason = err.Error()
		var coded interface{ ErrorCode() string }
		throttled := errors.As(err, &coded) && strings.Contains(coded.ErrorCode(), "Throttling") // sent with status 400
		if refuses(e.Status) && !throttled && gcerrors.Code(err) != gcerrors.ResourceExhausted {
			e.Err = ErrRefused
		}
	case scheme == localsecrets.Scheme:
		e.Err = ErrRefused // there is no service that could be down
		e.Reason = "it was altered, or another key wrapped it"
	default:
		e.Reason = err.Error()
		switch gcerrors.Code(err) { //nolint:exhaustive // the others are temporary
		case gcerrors.PermissionDenied, gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.FailedPrecondition,
			gcerrors.Unimplemented:
			e.Err = ErrRefused
		}
	}
	if op == opWrap {
		e.Reason = "" // the request contains the keys, and the answer may repeat it
	}
	e.Reason = strings.Join(strings.Fields(e.Reason), " ")
	if len(e.Reason) > maxReason {
		e.Reason = strings.ToValidUTF8(e.Reason[:maxReason], "") + "…"
	}
	return e
}
