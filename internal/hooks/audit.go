package hooks

import (
	"context"
	"log/slog"
	"strings"

	"entgo.io/ent"
	"github.com/google/uuid"

	credent "github.com/credent-go/credent/ent"
	"github.com/credent-go/credent/ent/hook"
	"github.com/credent-go/credent/internal/principal"
)

// actorOf returns the context's actor, or else its user.
func actorOf(ctx context.Context) string {
	if actor, ok := principal.Actor(ctx); ok {
		return actor
	}
	user, _ := principal.User(ctx)
	return user
}

// auditor records who did what to which rows. It writes fields' names, never
// their values.
type auditor struct{ log *slog.Logger }

func (a auditor) hook(next ent.Mutator) ent.Mutator {
	return hook.UserCredentialFunc(func(ctx context.Context, m *credent.UserCredentialMutation) (ent.Value, error) {
		ids, err := affected(ctx, m)
		if err != nil {
			return nil, err
		}
		value, err := next.Mutate(ctx, m)
		if created, ok := value.(*credent.UserCredential); ok && created != nil && m.Op().Is(ent.OpCreate) {
			ids = []uuid.UUID{created.ID}
		}
		a.record(ctx, m, "credential", ids, err)
		return value, err
	})
}

func (a auditor) accountHook(next ent.Mutator) ent.Mutator {
	return hook.UserAccountFunc(func(ctx context.Context, m *credent.UserAccountMutation) (ent.Value, error) {
		ids, err := affected(ctx, m)
		if err != nil {
			return nil, err
		}
		value, err := next.Mutate(ctx, m)
		if created, ok := value.(*credent.UserAccount); ok && created != nil && m.Op().Is(ent.OpCreate) {
			ids = []uuid.UUID{created.ID}
		}
		a.record(ctx, m, "account", ids, err)
		return value, err
	})
}

// RecordCreated writes one record for credentials that were created together.
func RecordCreated(ctx context.Context, log *slog.Logger, ids []uuid.UUID) {
	log.LogAttrs(ctx, slog.LevelInfo, "credent audit",
		slog.String("actor", actorOf(ctx)),
		slog.String("operation", operations[ent.OpCreate]),
		slog.String("entity", "credential"),
		slog.Any("ids", textsOf(ids)),
	)
}

func textsOf(ids []uuid.UUID) []string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return texts
}

// affected returns the rows that a mutation will change, before they change.
func affected(ctx context.Context, m interface {
	ent.Mutation
	ID() (uuid.UUID, bool)
	IDs(ctx context.Context) ([]uuid.UUID, error)
},
) ([]uuid.UUID, error) {
	if id, ok := m.ID(); ok {
		return []uuid.UUID{id}, nil
	}
	if m.Op().Is(ent.OpCreate) {
		return nil, nil
	}
	return m.IDs(ctx)
}

// operations are the operations' names in records.
var operations = map[ent.Op]string{
	ent.OpCreate: "create", ent.OpUpdate: "update", ent.OpUpdateOne: "update",
	ent.OpDelete: "delete", ent.OpDeleteOne: "delete",
}

func (a auditor) record(ctx context.Context, m ent.Mutation, entity string, ids []uuid.UUID, err error) {
	attrs := []slog.Attr{
		slog.String("actor", actorOf(ctx)),
		slog.String("operation", operations[m.Op()]),
		slog.String("entity", entity),
		slog.Any("ids", textsOf(ids)),
	}
	if fields := append(m.Fields(), m.ClearedFields()...); len(fields) > 0 && !m.Op().Is(ent.OpDelete|ent.OpDeleteOne) {
		attrs = append(attrs, slog.String("fields", strings.Join(fields, ",")))
	}
	if row := principal.Replaces(ctx); row != "" && entity == "credential" && m.Op().Is(ent.OpCreate) {
		attrs = append(attrs, slog.String("replaces", row))
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	a.log.LogAttrs(ctx, level, "credent audit", attrs...)
}
