package dashboard_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/credent-go/credent"
	"github.com/credent-go/credent/audit"
	"github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/usercredential"
	"github.com/credent-go/credent/keyring"
	"github.com/credent-go/credent/migrate"
	"github.com/credent-go/credent/open/sqlite"
	"github.com/credent-go/credent/otelcredent"
	"github.com/credent-go/credent/rotate"
)

// load is a running service with scraped metrics.
type load struct {
	t        *testing.T
	metrics  *otelcredent.Metrics
	registry *prometheus.Registry
	db       *sql.DB
	client   *ent.Client // reads plaintext and tenants' keys, writes tokens under the keyring
	tenants  *ent.Client // writes tenants' keys
	ring     *keyring.Keyring
	trail    *audit.Trail
	account  *ent.UserAccount

	down, renewed   atomic.Bool // the keyring's source fails; it has a new key
	failed, changed chan struct{}
	unwritten       chan struct{} // a flush of the audit trail failed
	pages           chan struct{} // releases a page of the rotation
}

const (
	rows    = 300
	damaged = 3
	queue   = 1000 // entries in the audit trail's queue
)

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// newLoad returns a service with credentials. A few are damaged, and a few are
// still plaintext.
func newLoad(t *testing.T, reload time.Duration) *load {
	t.Helper()
	ctx := t.Context()
	l := &load{t: t, registry: prometheus.NewRegistry(), pages: make(chan struct{})}
	l.failed, l.changed, l.unwritten = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	reader := must[*exporter.Exporter](t)(exporter.New(exporter.WithRegisterer(l.registry), exporter.WithoutScopeInfo(),
		exporter.WithoutTargetInfo()))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	l.metrics = must[*otelcredent.Metrics](t)(otelcredent.New(otelcredent.Config{MeterProvider: provider}))

	first, second := keyring.GenerateKey(), keyring.GenerateKey()
	l.ring = must[*keyring.Keyring](t)(keyring.Watch(ctx, func(context.Context) (*keyring.Keyring, error) {
		if l.down.Load() {
			return nil, errors.New("the source is down")
		}
		if !l.renewed.Load() {
			return keyring.New(first)
		}
		return keyring.New(second, first)
	}, keyring.WatchConfig{Interval: reload, Observe: func(keyring.Event) {}, OnLoad: func(e keyring.Event) {
		l.metrics.KeyringLoaded(e)
		told := l.failed
		switch {
		case e.Err == nil && len(e.After) == 1:
			return
		case e.Err == nil:
			told = l.changed
		}
		tell(told)
	}}))

	db, dialect, err := credent.OpenDB("sqlite:"+filepath.Join(t.TempDir(), "load.db"),
		credent.WithDriver(sqlite.Driver()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	l.db = db
	if err := migrate.Apply(ctx, db, migrate.Config{}); err != nil {
		t.Fatal(err)
	}
	l.trail = must[*audit.Trail](t)(audit.Open(ctx, db, dialect, audit.Config{
		Keyring: l.ring, Queue: queue, Flush: reload, OnError: func(error) { tell(l.unwritten) },
	}))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := l.trail.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	l.metrics.ObserveTrail(l.trail)
	open := func(cfg credent.Config) *ent.Client {
		cfg.Keyring, cfg.Observer, cfg.Trail = l.ring, l.metrics.Observer(), l.trail
		return must[*ent.Client](t)(credent.NewClient(db, dialect, cfg))
	}
	l.client = open(credent.Config{Encryption: credent.Write, TenantKeys: credent.Accept})
	l.tenants = open(credent.Config{Encryption: credent.Write, TenantKeys: credent.Write})
	l.account = l.client.UserAccount.Create().SetUserID("user-1").SetAccountName("a").SaveX(ctx)
	for i := range rows {
		row := l.create(l.client)
		switch {
		case i < damaged:
			l.exec("UPDATE user_credentials SET secret_key = 'gAAAAbroken' WHERE id = ?", row.ID)
		case i < 3*damaged:
			l.exec("UPDATE user_credentials SET secret_key = 'bare' WHERE id = ?", row.ID)
		case i < 30:
			l.client.UserCredential.UpdateOne(row).SetExpiresAt(time.Now().UTC().AddDate(0, 0, i-10)).ExecX(ctx)
		}
	}
	for _, within := range []time.Duration{0, 7 * 24 * time.Hour, 30 * 24 * time.Hour} {
		err := l.metrics.ObserveExpiring(within, func(ctx context.Context, before time.Time) (int64, error) {
			n, err := l.client.UserCredential.Query().Where(usercredential.ExpiresAtLT(before)).Count(ctx)
			return int64(n), err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	l.flush()
	return l
}

// flush empties the audit trail's queue.
func (l *load) flush() {
	l.t.Helper()
	if err := l.trail.Flush(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// tell sends on a channel, unless it is full, which means that it was told
// before.
func tell(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (l *load) create(client *ent.Client) *ent.UserCredential {
	return client.UserCredential.Create().SetAccount(l.account).SetUserID("user-1").SetCredentialType("alpaca").
		SetAPIKey(credent.NewSecret("PK-MADE-UP")).SetSecretKey(credent.NewSecret("made-up")).SaveX(l.t.Context())
}

// exec writes values that the CHECKs would refuse.
func (l *load) exec(query string, args ...any) {
	l.t.Helper()
	conn := must[*sql.Conn](l.t)(l.db.Conn(l.t.Context()))
	defer func() { _ = conn.Close() }()
	for i, one := range []string{"PRAGMA ignore_check_constraints = 1", query, "PRAGMA ignore_check_constraints = 0"} {
		var of []any
		if i == 1 {
			of = args
		}
		if _, err := conn.ExecContext(l.t.Context(), one, of...); err != nil {
			l.t.Fatal(err)
		}
	}
}

// step does the work between two scrapes. Its amount rises and falls with the
// elapsed share of the time.
func (l *load) step(share float64, n int) {
	l.t.Helper()
	ctx := l.t.Context()
	client := l.client
	if n%2 == 1 {
		client = l.tenants
	}
	wave := 1 + n%12
	for i := range 1 + wave/4 {
		if row := l.create(client); i == 0 {
			client.UserCredential.UpdateOne(row).SetAPIKey(credent.NewSecret("PK-REPLACED")).ExecX(ctx)
		}
	}
	query := client.UserCredential.Query().Limit(4 * wave).Offset(3 * damaged)
	switch {
	case share < 0.25: // including plaintext
		query.Offset(damaged)
	case share > 0.3 && share < 0.6: // including damaged rows
		query.Offset(0)
	}
	for i, row := range query.Order(usercredential.ByCreatedAt()).AllX(ctx) {
		_, _ = row.SecretKey.Reveal()
		if i%2 == 0 {
			_, _ = row.APIKey.Reveal()
		}
	}
}

// rotate rewrites all rows, one page per release.
func (l *load) rotate(done chan<- error) {
	ctx, run := l.metrics.Rotation(l.t.Context(), "rotate")
	_, err := rotate.Run(ctx, l.db, l.ring, rotate.Config{
		In: ent.EncryptedColumns(), Batch: 40, Workers: 1, Quarantine: run.Quarantine,
		Progress: func(p rotate.Progress) {
			run.Progress(p)
			if p.Waiting == nil {
				select {
				case <-l.pages:
				case <-ctx.Done():
				}
			}
		},
	})
	run.End(err)
	done <- err
}

// scrape returns the registry's current values.
func (l *load) scrape() scrape {
	l.t.Helper()
	families := must[[]*dto.MetricFamily](l.t)(l.registry.Gather())
	now := scrape{at: time.Now()}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{"__name__": family.GetName()}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			value := m.GetGauge().GetValue()
			if m.GetCounter() != nil {
				value = m.GetCounter().GetValue()
			}
			now.series = append(now.series, series{labels, value})
		}
	}
	return now
}

// run works for a number of scrapes and returns them.
func (l *load) run(scrapes int, every time.Duration) (h history) {
	l.t.Helper()
	h.interval = 4
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	done := make(chan error, 1)
	rotating := false
	for n := range scrapes {
		share := float64(n) / float64(scrapes)
		l.step(share, n)
		switch n {
		case scrapes * 2 / 10:
			l.down.Store(true)
			<-l.failed // a failed load
		case scrapes * 4 / 10:
			l.down.Store(false)
			l.renewed.Store(true)
			<-l.changed // changed keys
		case scrapes / 2:
			rotating = true
			go l.rotate(done)
		case scrapes * 7 / 10:
			// Changes continue, and reveals wait in the trail's queue. The
			// queue has room for all of them; if it were full, the run would
			// never end.
			l.flush()
			l.exec(`CREATE TRIGGER no_reveals BEFORE INSERT ON credent_audit WHEN NEW.action = 'reveal'
				BEGIN SELECT RAISE(ABORT, 'the disk is full'); END`)
			l.step(share, n) // otherwise the queue may be empty
			<-l.unwritten
		case scrapes * 8 / 10:
			l.exec("DROP TRIGGER no_reveals")
		}
		if rotating {
			select {
			case l.pages <- struct{}{}:
			case err := <-done:
				l.ended(err)
				rotating = false
			case <-time.After(every):
			}
		}
		h.scrapes = append(h.scrapes, l.scrape())
		<-ticker.C
	}
	for rotating {
		select {
		case l.pages <- struct{}{}:
		case err := <-done:
			l.ended(err)
			rotating = false
		}
	}
	for n := range 2 {
		l.step(1, scrapes+n)
		h.scrapes = append(h.scrapes, l.scrape())
		<-ticker.C
	}
	return h
}

func (l *load) ended(err error) {
	l.t.Helper()
	if err != nil && !errors.Is(err, rotate.ErrQuarantined) {
		l.t.Error(err)
	}
}
