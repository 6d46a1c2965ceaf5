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

	// callTimeout bounds a call if its context does not end sooner.
	callTimeout = 20 * time.Second
	// maxReason is the size in bytes of the longest reason that is passed on.
	maxReason = 300
)

// call lets the service of a URL encrypt or decrypt. It returns when the
// context ends, even if a driver doesn't.
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
	input = append([]byte(nil), input...) // the caller's may be cleared while a driver that hangs has it
	answers := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if recover() != nil { // the driver of Vault does not check what it is given; the value may have parts of it
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

var errNoAnswer = errors.New("the answer is not from a key management service; is the address right?")

// openKeeper returns the driver of a URL. Its errors do not quote the URL,
// which may be a key.
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
		// With base64key:// alone the driver makes a random key, which is lost
		// when the process ends.
		return "", nil, fmt.Errorf("kms: %w: it names no key", ErrURL)
	}
	keeper, err = secrets.OpenKeeper(ctx, u.String())
	if err != nil {
		return "", nil, fmt.Errorf("kms: %w: the driver of %s does not accept it, or has no credentials to use it with",
			ErrURL, u.Scheme)
	}
	return u.Scheme, keeper, nil
}

// openVault makes a client for each call, where gocloud's opener keeps the
// first token of the process for ever, and the engine of one URL for the next.
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

// vaultToken returns the token of the environment, or of the file that
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

// refuses reports whether a status of HTTP is a refusal, and not something that
// passes.
func refuses(status int) bool {
	return status >= http.StatusBadRequest && status < http.StatusInternalServerError &&
		status != http.StatusTooManyRequests
}

// explain makes an [Error] of what a driver returned.
func explain(ctx context.Context, op, scheme string, err error) error {
	e := &Error{Op: op, Scheme: scheme, Err: ErrUnavailable}
	var response *api.ResponseError
	var netErr *net.OpError
	var statusErr interface{ HTTPStatusCode() int } // of AWS; gocloud lacks its code for a missing permission
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
		return e // of the network, which knows addresses only
	case errors.As(err, &statusErr):
		e.Status = statusErr.HTTPStatusCode()
		e.Reason = err.Error()
		var coded interface{ ErrorCode() string }
		throttled := errors.As(err, &coded) && strings.Contains(coded.ErrorCode(), "Throttling") // with status 400
		if refuses(e.Status) && !throttled && gcerrors.Code(err) != gcerrors.ResourceExhausted {
			e.Err = ErrRefused
		}
	case scheme == localsecrets.Scheme:
		e.Err = ErrRefused // nothing is there that could be down
		e.Reason = "it was altered, or another key wrapped it"
	default:
		e.Reason = err.Error()
		switch gcerrors.Code(err) { //nolint:exhaustive // the others are passing
		case gcerrors.PermissionDenied, gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.FailedPrecondition,
			gcerrors.Unimplemented:
			e.Err = ErrRefused
		}
	}
	if op == opWrap {
		e.Reason = "" // the request has the keys, and an answer may repeat it
	}
	e.Reason = strings.Join(strings.Fields(e.Reason), " ")
	if len(e.Reason) > maxReason {
		e.Reason = strings.ToValidUTF8(e.Reason[:maxReason], "") + "…"
	}
	return e
}
