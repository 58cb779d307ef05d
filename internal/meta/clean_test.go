package meta

func (f *fixture) clean() {}
