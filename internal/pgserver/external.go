//go:build linux || darwin

package pgserver

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"time"
)

// externalTimeout limits the checks of an external server.
const externalTimeout = time.Minute

// external returns the server that EnvURL names, after checking that it answers
// and supports the tests. Errors don't quote the URL, which contains a
// password.
func external(ctx context.Context, rawURL string, search binarySearch, cfg config) (_ *Server, err error) {
	base, err := externalBase(rawURL)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", EnvURL, err)
	}
	s := &Server{base: *base, binDir: search.clientDir(ctx)}
	if s.admin, err = openAdmin(*base, adminTimeout); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvURL, err)
	}
	defer func() {
		if err != nil {
			_ = s.admin.Close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, externalTimeout)
	defer cancel()
	if err := s.admin.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("cannot connect to the server at %s that %s names: %w "+
			"(start it, correct the variable, or unset it to use the installed binaries)", base.Host, EnvURL, err)
	}
	if s.version, err = serverVersion(ctx, s.admin); err != nil {
		return nil, fmt.Errorf("server at %s that %s names: %w", base.Host, EnvURL, err)
	}
	if err := checkExternal(ctx, s.admin, cfg.settings); err != nil {
		return nil, fmt.Errorf("server at %s that %s names: %w", base.Host, EnvURL, err)
	}
	return s, nil
}

// externalBase parses a server's URL. It drops the errors of package url, which
// quote parts of it, possibly a password with an unescaped character.
func externalBase(rawURL string) (*url.URL, error) {
	u, err := url.Parse(rawURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return nil, fmt.Errorf("not of the form postgres://user:password@host:5432/database " +
			"(special characters in the password are percent-encoded)")
	}
	query := u.Query()
	query.Del("dbname") // it would override the path, which URL changes
	if !query.Has("sslmode") {
		query.Set("sslmode", "disable")
	}
	u.RawQuery = query.Encode()
	return u, nil
}

// checkExternal fails if the role may not create databases or a setting isn't
// as required.
func checkExternal(ctx context.Context, db *sql.DB, settings []setting) error {
	var role string
	var allowed bool
	const query = "SELECT rolname, rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
	if err := db.QueryRowContext(ctx, query).Scan(&role, &allowed); err != nil {
		return fmt.Errorf("ask for the role's rights: %w", err)
	}
	if !allowed {
		return fmt.Errorf("role %q may not create databases (ALTER ROLE … CREATEDB lets it)", role)
	}
	for _, want := range settings {
		var got sql.NullString
		if err := db.QueryRowContext(ctx, "SELECT current_setting($1, true)", want.name).Scan(&got); err != nil {
			return fmt.Errorf("ask for %s: %w", want.name, err)
		}
		if !got.Valid || got.String != want.value {
			return fmt.Errorf("%s is %q, and must be %q here (set it and restart, or unset %s)",
				want.name, got.String, want.value, EnvURL)
		}
	}
	return nil
}
