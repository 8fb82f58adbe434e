-- name: record
INSERT INTO phdl.event (actor, subject, action, detail)
VALUES (:actor, :subject, :action, CAST(:detail AS jsonb));

-- name: of_subject
-- What happened to one thing, oldest first.
SELECT event_id, happened_at, actor, subject, action, detail
FROM phdl.event
WHERE subject = :subject
ORDER BY event_id;
