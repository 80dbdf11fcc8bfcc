By0Jpo
A