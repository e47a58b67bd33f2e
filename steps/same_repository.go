package steps

import (
	"context"
	"fmt"

	"github.com/pgkeep/pgkeep/state"
)

// sameRepository refuses to delete from a repository that is not the one which was planned for: behind its path another may
// have been mounted since. planned is empty where the plan did not know it.
func sameRepository(c Cluster, label, planned string) error {
	return sameID(c.RepositoryID(), label, planned, "nothing was deleted")
}

func sameID(now, label, planned, spared string) error {
	if planned != "" && now != planned {
		return &state.Error{
			Code: state.CodeStale, Hint: "look what is mounted there, and plan again: pgkeep plan",
			Text: fmt.Sprintf("another repository is there now: its id is %s, and %q was %s when this was planned; %s", now, label, planned, spared),
		}
	}
	return nil
}

// planned opens repositories for a step that writes into them, each time anew: only those that were planned for.
type planned struct {
	Repositories
	ids map[string]string // by label; those that the plan did not know are absent
}

func (p planned) Cluster(ctx context.Context, label, server, systemID string) (Cluster, error) {
	c, err := p.Repositories.Cluster(ctx, label, server, systemID)
	if err != nil {
		return nil, err
	}
	if err := sameID(c.RepositoryID(), label, p.ids[label], untouched); err != nil {
		return nil, err
	}
	return c, nil
}

// untouched says what became of a repository that is another one.
const untouched = "nothing was written there"
