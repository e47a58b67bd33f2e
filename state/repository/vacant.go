package repository

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pgkeep/pgkeep/state"
	"github.com/pgkeep/pgkeep/state/repository/store"
)

// vacant tells what a place without REPOSITORY.json is. It is never an empty repository.
func vacant(ctx context.Context, st store.Store) error {
	place, ok := st.(store.Place)
	if !ok {
		return vacantStore(ctx, st)
	}
	facts, err := place.Look(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("open repository: %w", code(err))
	case facts.FstabMount != "":
		return notMounted(facts)
	case !facts.Empty && (slices.ContainsFunc(facts.Entries, foreign) || !ourReadme(ctx, st)):
		return notRepository(facts.Path)
	}
	what := "is empty"
	if !facts.Exists {
		what = "does not exist"
	}
	return &state.Error{Code: state.CodeAbsent, Text: fmt.Sprintf("%s %s: there is no repository", facts.Path, what), Hint: "pgkeep plan says whether one is to be created there, or what was there has to be mounted"}
}

func vacantStore(ctx context.Context, st store.Store) error {
	for info, err := range st.List(ctx, "", "", true) {
		if err != nil {
			return fmt.Errorf("open repository: %w", code(err))
		}
		if foreign(info.Key) || !ourReadme(ctx, st) { // which a Create that was cut short leaves alone
			return notRepository("the store")
		}
	}
	return &state.Error{Code: state.CodeAbsent, Text: "the store is empty: there is no repository", Hint: "pgkeep plan says whether one is to be created there, or what was there has to be mounted"}
}

// foreign tells what a Create that was cut short would not have left.
func foreign(name string) bool {
	return name != readmeKey && name+"/" != keysDir && name != keysDir
}

// ourReadme tells whether README.txt begins as ours does: a Create that was cut short put it.
func ourReadme(ctx context.Context, st store.Store) bool {
	first, _, _ := strings.Cut(readme, "\n")
	b, err := readAll(ctx, st, readmeKey, 1<<20)
	return err == nil && strings.HasPrefix(string(b), first+"\n")
}

func notMounted(f store.PlaceFacts) error {
	return &state.Error{
		Code: state.CodeNotMounted, Text: fmt.Sprintf("%s is not mounted, so what %s holds is unknown", f.FstabMount, f.Path),
		Hint: "mount " + f.FstabMount,
	}
}

func notRepository(where string) error {
	return &state.Error{
		Code: state.CodeNotRepository, Text: fmt.Sprintf("%s has content, but no %s: it is no repository of pgkeep", where, repositoryKey),
		Hint: "name another path, or look whether the right file system is mounted there",
	}
}
