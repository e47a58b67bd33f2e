package plan

// repositoryIDs gives the ids of the repositories that exist and were seen, by label; nil: of none.
func (b *builder) repositoryIDs(labels []string) map[string]string {
	out := map[string]string{}
	for _, label := range labels {
		if p := b.repositories[label]; p != nil && p.seen.Unknown == nil && p.create == "" && p.seen.ID != "" {
			out[label] = p.seen.ID
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// readBy gives the labels of the repositories that a recovery may read: the route's, and the server's others.
func (b *builder) readBy(r *Route) []string {
	out := []string{r.Repository}
	for i := range b.spec.Servers {
		if s := &b.spec.Servers[i]; s.Name == r.Server {
			out = append(out, s.Repositories...)
		}
	}
	return out
}

// idOf keeps one label of such a map.
func idOf(ids map[string]string, label string) map[string]string {
	if id, ok := ids[label]; ok {
		return map[string]string{label: id}
	}
	return nil
}
